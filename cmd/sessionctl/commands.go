package main

import "github.com/spf13/cobra"

// storeCommands are those about the store as a whole.
func (a *app) storeCommands() []*cobra.Command {
	return []*cobra.Command{
		a.tableCommand(),
		a.sweepCommand(),
		a.migrateCommand(),
		a.iamCommand(),
		a.doctorCommand(),
	}
}

// sessionCommands are those about sessions, and about what they cost.
func (a *app) sessionCommands() []*cobra.Command {
	return []*cobra.Command{
		a.listCommand(),
		a.showCommand(),
		a.revokeCommand(),
		a.statsCommand(),
		a.benchCommand(),
		a.costCommand(),
	}
}
