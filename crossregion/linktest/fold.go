package linktest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crossregion/protocol"
)

var errNotFolded = errors.New("not a folded record")

// Fold is a protocol.Folder, whose records Node.Merge takes apart again.
func Fold(records []protocol.Record) (protocol.Record, error) {
	single, err := unfold(records)
	if err != nil {
		return protocol.Record{}, err
	}
	var data []byte
	for _, r := range single {
		data = append(binary.AppendUvarint(data, uint64(len(r.Data))), r.Data...)
	}
	return protocol.Record{First: records[0].Begin(), Seq: records[len(records)-1].Seq, Data: data}, nil
}

// unfold returns the records that were folded, and those that were not as they are.
func unfold(records []protocol.Record) ([]protocol.Record, error) {
	var all []protocol.Record
	for _, r := range records {
		if r.First == 0 || r.First == r.Seq {
			all = append(all, r)
			continue
		}
		data := r.Data
		for seq := r.First; seq <= r.Seq; seq++ {
			length, n := binary.Uvarint(data)
			if n <= 0 || length > uint64(len(data)-n) {
				return nil, fmt.Errorf("%w: %d to %d", errNotFolded, r.First, r.Seq)
			}
			all = append(all, protocol.Record{Seq: seq, Data: data[n : n+int(length)]})
			data = data[n+int(length):]
		}
		if len(data) > 0 {
			return nil, fmt.Errorf("%w: %d bytes more", errNotFolded, len(data))
		}
	}
	return all, nil
}
