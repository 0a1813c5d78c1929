package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
)

// confirm asks on the terminal. Without one, only --yes confirms.
func (a *app) confirm(ctx context.Context, question string) error {
	if !terminal(a.stdin) {
		return usageError("%s There is no terminal to ask on: add --yes", question)
	}
	return a.ask(ctx, question)
}

func (a *app) ask(ctx context.Context, question string) error {
	a.stderr.printf("%s [y/N] ", question)
	answer, err := readLine(a.input(ctx))
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}

// input is standard input until ctx ends: whoever is asked can press Ctrl-C.
func (a *app) input(ctx context.Context) io.Reader { return &input{ctx, a.stdin} }

type input struct {
	ctx context.Context
	r   io.Reader
}

func (in *input) Read(p []byte) (int, error) {
	data, err := within(in.ctx, func() ([]byte, error) {
		data := make([]byte, len(p)) // p is the caller's again when ctx ends
		n, err := in.r.Read(data)
		return data[:n], err
	})
	return copy(p, data), err
}

// readLine returns a line; what ends without one is as good as an empty line.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, err
}
