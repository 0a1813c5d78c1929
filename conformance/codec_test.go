package conformance_test

import (
	"testing"

	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/conformance"
)

func TestMessagePack(t *testing.T) { conformance.TestCodec(t, codec.MessagePack{}) }

func TestJSON(t *testing.T) { conformance.TestCodec(t, codec.JSON{}) }
