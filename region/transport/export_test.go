package transport

import "bytes"

// ReadHello lets the fuzzer of the external tests reach the decoder.
func ReadHello(data []byte) { _, _ = readHello(bytes.NewReader(data)) }
