package main

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// mostNumber is beyond what anything that a flag is about can be. What is
// computed from two of them is a number still.
const mostNumber = 1e18

// number is a flag that is a finite number. Whether it may be negative is the
// command's to say.
type number float64

// numberVar is the only way to have such a flag: those of package pflag take
// NaN and Inf.
func numberVar(f *pflag.FlagSet, p *float64, name string, value float64, usage string) {
	*p = value
	f.Var((*number)(p), name, usage)
}

// Set reads the number.
func (n *number) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= -mostNumber && v <= mostNumber) {
		return errors.New("use a number such as 100 or 0.5, up to 1e18")
	}
	*n = number(v)
	return nil
}

// String writes the default into the usage.
func (n *number) String() string { return strconv.FormatFloat(float64(*n), 'g', -1, 64) }

// Type names the type in the usage.
func (n *number) Type() string { return "float" }
