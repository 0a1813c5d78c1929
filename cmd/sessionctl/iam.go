package main

import "github.com/spf13/cobra"

func (a *app) iamCommand() *cobra.Command {
	return &cobra.Command{Use: "iam", RunE: func(*cobra.Command, []string) error { return errPrinted }}
}

func roleOf(action string) string { return "operator" }
