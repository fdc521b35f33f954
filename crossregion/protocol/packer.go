package protocol

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

const (
	// zipFrom is how many bytes are worth compressing.
	zipFrom = 1 << 10
	// zipWindow bounds the memory of either side; an envelope is seldom larger.
	zipWindow = 256 << 10
)

// Packer makes what is sent smaller, and reads that. It is safe for concurrent use. One that is nil neither
// folds nor compresses.
type Packer struct {
	fold    Folder
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// NewPacker returns a packer that folds with fold, if that is not nil.
func NewPacker(fold Folder) (*Packer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(zipWindow), zstd.WithEncoderCRC(false)) // the frame has one
	if err != nil {
		return nil, fmt.Errorf("make a compressor: %w", err)
	}
	// What a few bytes decompress to is bounded before it is allocated.
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxFrameBytes), zstd.WithDecoderMaxWindow(MaxFrameBytes))
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	return &Packer{fold, encoder, decoder}, nil
}

// Pack returns the records to send: one that stands for all, if that is smaller.
func (p *Packer) Pack(records []Record) []Record {
	if p == nil || p.fold == nil || len(records) < 2 {
		return records
	}
	folded, err := p.fold(records)
	if err != nil || len(folded.Data) >= sizeOf(records) {
		return records
	}
	return []Record{folded}
}

// zip compresses data, and reports whether that is worth it.
func (p *Packer) zip(data []byte) ([]byte, bool) {
	if p == nil || len(data) < zipFrom {
		return nil, false
	}
	zipped := p.encoder.EncodeAll(data, nil)
	return zipped, len(zipped) < len(data)
}

func (p *Packer) unzip(data []byte) ([]byte, error) {
	if p == nil {
		return nil, fmt.Errorf("codec %d is not known here", CodecZipped)
	}
	plain, err := p.decoder.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return plain, nil
}

// sizeOf returns how many bytes records take in an envelope.
func sizeOf(records []Record) int {
	bytes := 0
	for i := range records {
		bytes += len(records[i].Data) + recordOverhead
	}
	return bytes
}
