// Package frameworks shows the Manager in web frameworks: one function for each,
// which returns the same small service. Its tests serve all of them over HTTP.
package frameworks

import "github.com/seed-a7bee19b/session"

var visits = session.Key[int]{Name: "visits"}

func next(n int) int { return n + 1 }
