package store

import (
	"encoding/binary"
	"hash/crc32"
)

// A record: crc32c(key || kind || rest) u32 | kind u8 | rest. All numbers are big endian.
const (
	crcBytes          = 4
	recordHeaderBytes = crcBytes + 1
	referenceBytes    = recordHeaderBytes + 4 + crcBytes

	// kindValue is followed by the value.
	kindValue = 0
	// kindReference says that the value's record is in the bucket of large values. It is followed by
	// the length and the checksum of that record, so that neither can be of another write.
	kindReference = 1

	// largeBytes is from which length of the record on a value is kept apart, so that a change of its
	// neighbours does not copy it.
	largeBytes = 1 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the checksum of a record from its kind on.
func checksum(key, content []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, content)
}

func recordBytes(value []byte) int { return recordHeaderBytes + len(value) }

// appendRecord appends the record of a pair to an empty slice. value may be in the slice's memory,
// where a record has its value.
func appendRecord(b, key, value []byte) []byte {
	b = append(b, 0, 0, 0, 0, kindValue)
	b = append(b, value...)
	return seal(b, key)
}

// seal sets a record's checksum.
func seal(record, key []byte) []byte {
	binary.BigEndian.PutUint32(record, checksum(key, record[crcBytes:]))
	return record
}

// intact reports whether a record is whole: of a known kind, and its checksum right.
func intact(key, record []byte) bool {
	if len(record) < recordHeaderBytes || binary.BigEndian.Uint32(record) != checksum(key, record[crcBytes:]) {
		return false
	}
	switch record[crcBytes] {
	case kindValue:
		return true
	case kindReference:
		return len(record) == referenceBytes
	default:
		return false
	}
}

// isReference reports whether the value of a record is kept apart; the record need not be intact.
func isReference(record []byte) bool {
	return len(record) == referenceBytes && record[crcBytes] == kindReference
}

// appendReference appends the record that refers to a large one.
func appendReference(b, key, large []byte) []byte {
	b = append(b, 0, 0, 0, 0, kindReference)
	b = binary.BigEndian.AppendUint32(b, uint32(len(large)))
	b = append(b, large[:crcBytes]...)
	return seal(b, key)
}

// refersTo reports whether a reference is the one to a large record.
func refersTo(reference, large []byte) bool {
	rest := reference[recordHeaderBytes:]
	return len(large) >= recordHeaderBytes && large[crcBytes] == kindValue &&
		uint64(binary.BigEndian.Uint32(rest)) == uint64(len(large)) &&
		string(rest[4:]) == string(large[:crcBytes])
}
