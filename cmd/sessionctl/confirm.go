package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// confirm asks whoever sits at the terminal. Where nobody does, only --yes
// says yes.
func (a *app) confirm(question string) error {
	if !terminal(a.stdin) {
		return usageError("%s Nobody can be asked here: say --yes", question)
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(a.stdin).ReadString('\n') // no answer is a no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}
