package transport

import (
	"bytes"
	"time"

	"github.com/atolldb/atoll/topology"
)

// ReadHello lets the fuzzer of the external tests reach the decoder.
func ReadHello(data []byte) { _, _ = readHello(bytes.NewReader(data)) }

// Hello returns the first bytes of a control or bulk connection.
func Hello(cluster string, from, to topology.NodeID, lane Lane) []byte {
	b, err := (&hello{cluster: cluster, from: from, to: to, lane: lane}).encode()
	if err != nil {
		panic(err)
	}
	return b
}

// ReadFrame reads a frame as a bulk connection does, and returns what the messages in it take together.
func ReadFrame(data []byte) (bodies int, err error) {
	payload, err := readFrame(bytes.NewReader(data), maxFrame(Bulk))
	for err == nil && len(payload) > 0 {
		var m message
		m, payload, err = nextMessage(payload)
		bodies += len(m.body)
	}
	return bodies, err
}

// Frame returns one frame of requests.
func Frame(bodies ...[]byte) []byte { return frameOf(0, bodies) }

// AnswerFrame returns one frame of answers.
func AnswerFrame(bodies ...[]byte) []byte { return frameOf(flagAnswer, bodies) }

func frameOf(flags uint8, bodies [][]byte) []byte {
	var messages []message
	for i, b := range bodies {
		messages = append(messages, message{group: 1, kind: 2, flags: flags, id: uint64(i + 1), body: b})
	}
	var w bytes.Buffer
	var f framer
	for len(messages) > 0 {
		n, err := f.write(&w, messages, bulkMessageBytes)
		if err != nil {
			panic(err)
		}
		messages = messages[n:]
	}
	return w.Bytes()
}

// Hurry has m's connections look after themselves often.
func Hurry(m *Mux) { m.lookEvery = 10 * time.Millisecond }

// Limits that the tests come up to.
const (
	ControlBytes = controlFrameBytes - messageHeader
	BulkBytes    = bulkMessageBytes
	ConnsPerPeer = connsPerPeer
)
