// Package phpcodec tests package codec/php against a real PHP.
package phpcodec
