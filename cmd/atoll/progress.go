package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/atolldb/atoll/cmd/internal/ingest"
)

const (
	barEvery   = 200 * time.Millisecond
	jsonEvery  = time.Second
	plainEvery = 5 * time.Second
)

// watchImport runs an import and shows how far it is.
func (a *app) watchImport(ctx context.Context, im *ingest.Importer, in *input, how string) error {
	if how == "auto" {
		how = "plain"
		if isTerminal(a.stderr) && in.bytes > 0 {
			how = "bar"
		}
	}
	var every time.Duration
	var show func(ingest.Stats)
	finish := func() {}
	switch how {
	case "bar":
		every = barEvery
		show, finish = a.progressBar(in)
	case "json":
		every, show = jsonEvery, func(s ingest.Stats) { a.progressJSON(s, in) }
	case "plain":
		every, show = plainEvery, func(s ingest.Stats) { a.progressLine(s, in) }
	default:
		return im.Run(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- im.Run(ctx) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if how != "plain" { // the summary that follows says the same
				show(im.Stats())
			}
			finish()
			return err
		case <-tick.C:
			show(im.Stats())
		}
	}
}

// remaining guesses from the share of the input that was read; 0 means that there is no telling.
func remaining(s ingest.Stats, in *input) time.Duration {
	if in.bytes == 0 || s.ReadBytes == 0 || s.ReadBytes >= in.bytes {
		return 0
	}
	return time.Duration(float64(s.Elapsed) * float64(in.bytes-s.ReadBytes) / float64(s.ReadBytes))
}

func rateOf(s ingest.Stats) float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Records-s.Resumed) / s.Elapsed.Seconds()
}

func (a *app) progressLine(s ingest.Stats, in *input) {
	text := fmt.Sprintf("%d records acknowledged, %d bad, %.0f records/s", s.Records, s.Bad+s.Refused, rateOf(s))
	if in.bytes > 0 {
		text += fmt.Sprintf(", %d%% read", 100*s.ReadBytes/in.bytes)
	}
	if left := remaining(s, in); left > 0 {
		text += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	a.notef("%s", text)
}

func (a *app) progressJSON(s ingest.Stats, in *input) {
	fmt.Fprintf(a.stderr, `{"records":%d,"resumed":%d,"batches":%d,"bad":%d,"refused":%d,"read_bytes":%d,"total_bytes":%d,"seconds":%.3f,"records_per_second":%.1f,"remaining_seconds":%.1f}`+"\n",
		s.Records, s.Resumed, s.Batches, s.Bad, s.Refused, s.ReadBytes, in.bytes, s.Elapsed.Seconds(), rateOf(s), remaining(s, in).Seconds())
}

// progressBar counts bytes of the input, because their total is known before the end.
func (a *app) progressBar(in *input) (show func(ingest.Stats), finish func()) {
	var now atomic.Pointer[ingest.Stats] // the bar is drawn by a goroutine of its own
	now.Store(&ingest.Stats{})
	p := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(40), mpb.WithAutoRefresh())
	bar := p.AddBar(in.bytes,
		mpb.PrependDecorators(decor.Percentage(decor.WCSyncSpace)),
		mpb.AppendDecorators(
			decor.Any(func(decor.Statistics) string {
				s, left := *now.Load(), "-"
				if d := remaining(s, in); d > 0 {
					left = d.Round(time.Second).String()
				}
				return fmt.Sprintf(" %d records, %.0f/s, %d bad, %s left", s.Records, rateOf(s), s.Bad+s.Refused, left)
			}),
		),
	)
	show = func(s ingest.Stats) {
		now.Store(&s)
		bar.SetCurrent(s.ReadBytes)
	}
	finish = func() {
		bar.Abort(false) // at the end it is complete, and this changes nothing
		p.Wait()
	}
	return show, finish
}
