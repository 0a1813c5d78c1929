package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestKeysThatBeginWithADash(t *testing.T) {
	a, b := "-1xlscvFjkC25AW73Awu3VzFY0LCEC9B", "--xlscvFjkC25AW73Awu3VzFY0LCEC9B"
	for args, want := range map[string]string{
		"show " + a:                                "show -- " + a,
		"show " + b + " --json":                    "show --json -- " + b,
		"--table sessions show " + a:               "--table sessions show -- " + a,
		"show --json -- " + a:                      "show --json -- " + a,
		"revoke " + a + " k " + b + " --yes":       "revoke k --yes -- " + a + " " + b,
		"revoke " + a + " -y -- " + b:              "revoke -y -- " + a + " " + b,
		"revoke --user " + a:                       "revoke --user " + a,
		"revoke --owner " + a + " --scan":          "revoke --owner " + a + " --scan",
		"revoke --everyone " + a:                   "revoke --everyone -- " + a,
		"revoke --user=x " + a:                     "revoke --user=x -- " + a,
		"revoke --table " + a + " " + b + " -y":    "revoke --table " + a + " -y -- " + b,
		"show " + a[:31]:                           "show " + a[:31],
		"show " + a[:31] + "!":                     "show " + a[:31] + "!",
		"nothing " + a:                             "nothing " + a,
		"revoke --user":                            "revoke --user",
		"list --json --sort key --key-prefix " + a: "list --json --sort key --key-prefix " + a,
	} {
		app := &app{stdout: &output{}, stderr: &output{}}
		if got := strings.Join(keysLast(app.root(), strings.Fields(args)), " "); got != want {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
}

func TestNoFlagLooksLikeAKey(t *testing.T) {
	app := &app{stdout: &output{}, stderr: &output{}}
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if isStoreKey("--" + f.Name) {
				t.Errorf("%s: --%s", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(app.root())
}
