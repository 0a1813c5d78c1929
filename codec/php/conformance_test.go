package php_test

import (
	"testing"

	"github.com/seed-a7bee19b/session/codec/php"
	"github.com/seed-a7bee19b/session/conformance"
)

// codecs are one for each handler, with sessions as bytes and as text.
var codecs = map[string]php.Codec{
	"php":                   {},
	"php_binary":            {Handler: php.Binary},
	"php_serialize":         {Handler: php.Serialize},
	"php as text":           {UTF8: true},
	"php_binary as text":    {Handler: php.Binary, UTF8: true},
	"php_serialize as text": {Handler: php.Serialize, UTF8: true},
	"php with a user":       {User: "user_id"},
}

func TestConformance(t *testing.T) {
	for name, c := range codecs {
		t.Run(name, func(t *testing.T) { conformance.TestCodec(t, c) })
	}
}
