package conformance

import "testing"

var codecMutants = []struct{ bug, rule string }{}

var _ testing.TB
