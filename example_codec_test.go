package session_test

import (
	"context"
	"fmt"
	"log"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// either writes with its Codec, and reads the data of two codecs.
type either struct {
	session.Codec
	other session.Codec
}

func (c either) Split(data []byte) (map[string][]byte, error) {
	values, err := c.Codec.Split(data)
	if err == nil {
		return values, nil
	}
	foreign, otherErr := c.other.Split(data)
	if otherErr != nil {
		return nil, fmt.Errorf("%w; %w", err, otherErr)
	}
	values = make(map[string][]byte, len(foreign))
	for name, data := range foreign {
		var v any
		if err := c.other.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		if values[name], err = c.Marshal(whole(v)); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// whole converts JSON's numbers to integers where they are whole.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	}
	return v
}

// This example changes the codec while sessions live and machines are updated
// one by one. First all machines read both codecs and write the old one; then
// all read both and write the new one. Each step can be undone. After
// Config.AbsoluteTimeout no old session is left, and the new codec suffices.
// JSON writes a time and a []byte as text, which MessagePack does not read into
// those types: such values must be translated one by one.
func ExampleConfig_changeOfCodec() {
	var store memory.Backend
	ctx := context.Background()
	steps := []session.Codec{
		codec.JSON{},
		either{codec.JSON{}, codec.MessagePack{}},
		either{codec.MessagePack{}, codec.JSON{}},
		codec.MessagePack{},
	}
	visits := session.Key[int]{Name: "visits"}
	var token string
	for i, c := range steps {
		m, err := session.New(&store, session.Config{Codec: c})
		if err != nil {
			log.Fatal(err)
		}
		s := m.Start()
		if token != "" {
			if s, err = m.Open(ctx, token); err != nil {
				log.Fatal(err)
			}
		}
		if _, err := visits.Update(s, func(n int) int { return n + 1 }); err != nil {
			log.Fatal(err)
		}
		if err := s.Save(ctx); err != nil {
			log.Fatal(err)
		}
		n, _ := visits.Get(s)
		fmt.Println("step", i, "visit", n)
		token = s.Token().Reveal()
	}
	// Output:
	// step 0 visit 1
	// step 1 visit 2
	// step 2 visit 3
	// step 3 visit 4
}
