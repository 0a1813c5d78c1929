package integration

func (w *worker) history() error { return nil }

type op struct{}
