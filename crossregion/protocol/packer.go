package protocol

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

const (
	// zipFrom is how many bytes are worth compressing.
	zipFrom = 1 << 10
	// zipWindow bounds the memory of either side; an envelope is seldom larger.
	zipWindow = 256 << 10
)

// Packer makes envelopes, smaller if that is possible, and reads them. It is safe for concurrent use.
type Packer struct {
	keys    *Keys
	fold    Folder
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// NewPacker returns a packer for a region with these keys, that folds with fold, if that is not nil.
func NewPacker(fold Folder, keys *Keys) (*Packer, error) {
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
	return &Packer{keys, fold, encoder, decoder}, nil
}

// Pack returns the records to send: one that stands for all, if that is smaller; if not, those at the beginning that
// are alike.
func (p *Packer) Pack(records []Record) []Record {
	if p.fold == nil || len(records) < 2 {
		return Alike(records)
	}
	folded, err := p.fold(records)
	if err != nil || len(folded.Data) >= sizeOf(records) {
		return Alike(records)
	}
	return []Record{folded}
}

// zip compresses data, and reports whether that is worth it.
func (p *Packer) zip(data []byte) ([]byte, bool) {
	if p.encoder == nil || len(data) < zipFrom {
		return nil, false
	}
	zipped := p.encoder.EncodeAll(data, nil)
	return zipped, len(zipped) < len(data)
}

func (p *Packer) unzip(data []byte) ([]byte, error) {
	if p.decoder == nil {
		return nil, fmt.Errorf("codec %d is not known here", CodecZipped)
	}
	plain, err := p.decoder.DecodeAll(data, nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, fmt.Errorf("%w: %w", ErrBomb, err)
	}
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
