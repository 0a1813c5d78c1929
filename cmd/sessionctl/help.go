package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usage is the last part of a command's help. The flags of all commands are
// in groups, and a command shows the groups that are used often.
func (a *app) usage(c *cobra.Command) error {
	w := c.OutOrStdout()
	fmt.Fprintf(w, "Usage:\n")
	if c.Runnable() && c.HasParent() && !c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND [flags]\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	groups := append(slices.Clone(c.Groups()), &cobra.Group{Title: "More:"})
	if !c.HasParent() || len(c.Groups()) == 0 {
		for _, g := range groups {
			a.usageCommands(w, c, g)
		}
	}
	local := c.LocalNonPersistentFlags()
	local.SortFlags = c.Flags().SortFlags
	a.usageFlags(w, "Flags", local)
	for _, g := range a.groups {
		if g.brief || !c.HasParent() {
			a.usageFlags(w, g.title, g.flags)
		}
	}
	if c.HasParent() {
		fmt.Fprintf(w, "\n\"%s help\" lists the flags for attribute names and codecs, and the exit codes.\n", c.Root().Name())
	} else {
		fmt.Fprintf(w, "\n\"%s help COMMAND\" describes a command.\n", c.Root().Name())
	}
	return nil
}

func (a *app) usageCommands(w io.Writer, c *cobra.Command, g *cobra.Group) {
	var lines []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.GroupID == g.ID {
			lines = append(lines, fmt.Sprintf("  %-12s %s", sub.Name(), sub.Short))
		}
	}
	title := g.Title
	if len(c.Groups()) == 0 {
		title = "Commands:"
	}
	if len(lines) > 0 {
		fmt.Fprintf(w, "\n%s\n%s\n", title, strings.Join(lines, "\n"))
	}
}

func (a *app) usageFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		fmt.Fprintf(w, "\n%s:\n%s", title, flags.FlagUsages())
	}
}

// helpCommand returns a help command like that of cobra, which fails if the command
// does not exist.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Describe a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil {
				return usageError("%w", err)
			}
			if len(rest) > 0 {
				return usageError("there is no command %q", strings.Join(args, " "))
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			if c, _, err := root.Find(args); err == nil {
				for _, sub := range c.Commands() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// needsCommand runs a command that has only subcommands.
func needsCommand(c *cobra.Command, args []string) error {
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	if len(args) > 0 {
		return usageError("there is no command %q; there is %s", c.CommandPath()+" "+args[0], strings.Join(names, ", "))
	}
	return usageError("%q needs one more word: %s", c.CommandPath(), strings.Join(names, ", "))
}
