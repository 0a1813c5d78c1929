// Package php reads and writes sessions as PHP does.
package php
