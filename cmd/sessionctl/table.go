package main

import "github.com/spf13/cobra"

func (a *app) tableCommand() *cobra.Command {
	return &cobra.Command{Use: "table", RunE: func(*cobra.Command, []string) error { return errPrinted }}
}
