package store

import (
	"encoding/binary"
	"hash/crc32"
)

// recordHeaderBytes is what precedes a value in its record.
const recordHeaderBytes = crcBytes

const crcBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
}

func recordBytes(value []byte) int { return recordHeaderBytes + len(value) }

// appendRecord appends the record of a pair.
func appendRecord(b, key, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, checksum(key, value))
	return append(b, value...)
}

// openRecord returns the value in a record whose checksum is right. It shares the record's memory.
func openRecord(key, record []byte) (value []byte, ok bool) {
	if len(record) < crcBytes {
		return nil, false
	}
	value = record[crcBytes:]
	return value, binary.BigEndian.Uint32(record) == checksum(key, value)
}
