package php

import (
	"math"
	"strconv"
)

// appendFloat writes f as PHP does with serialize_precision = -1: with as few digits
// as tell it from other floats.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NAN"...)
	case math.IsInf(f, 1):
		return append(b, "INF"...)
	case math.IsInf(f, -1):
		return append(b, "-INF"...)
	}
	if abs := math.Abs(f); abs == 0 || abs >= 1e-4 && abs < 1e17 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'E', -1, 64)
	// Go writes 1E-05 and 1.5E+300, PHP 1.0E-5 and 1.5E+300.
	e := start
	for b[e] != 'E' {
		e++
	}
	exp := b[e+2:]
	if exp[0] == '0' {
		exp = exp[1:]
	}
	text := string(b[start:e])
	sign, digits := b[e+1], string(exp)
	b = append(b[:start], text...)
	if len(text) <= 2 && (len(text) == 1 || text[0] == '-') {
		b = append(b, '.', '0')
	}
	return append(append(b, 'E', sign), digits...)
}

// parseFloat reads a float that a walker has passed.
func parseFloat(b []byte) (float64, error) {
	switch string(b) {
	case "INF":
		return math.Inf(1), nil
	case "-INF":
		return math.Inf(-1), nil
	case "NAN":
		return math.NaN(), nil
	}
	return strconv.ParseFloat(string(b), 64)
}
