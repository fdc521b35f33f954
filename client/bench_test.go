package client

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// stubServer answers every Get and Put of a stream with the same reply, and does nothing else, so that
// what a benchmark measures is the client's.
func stubServer(b *testing.B, valueBytes int) string {
	info := &atollv1.ReplyInfo{Region: "eu", Node: "eu-1", Partition: 3, Epoch: 1, Served: atollv1.Consistency_CONSISTENCY_LINEARIZABLE}
	replies := map[protowire.Number][]byte{
		fieldGet: marshal(b, &atollv1.GetResponse{
			Found: true, Value: make([]byte, valueBytes), Type: atollv1.Type_TYPE_LWW_REGISTER, Version: "0123456789abcdef", Info: info,
		}),
		fieldPut: marshal(b, &atollv1.PutResponse{Version: "0123456789abcdef", Info: info}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc(atollv1connect.KVPipelineProcedure, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", pipelineContentType)
		in := bufio.NewReader(r.Body)
		var buf, out []byte
		for {
			_, msg, err := readEnvelope(in, buf)
			if err != nil {
				return
			}
			buf = msg
			out = append(out[:0], make([]byte, envelopeBytes)...)
			for _, a := range requestsOf(msg) {
				reply := replies[a.field]
				out = protowire.AppendTag(out, fieldMoreAnswers, protowire.BytesType)
				out = protowire.AppendVarint(out, uint64(1+protowire.SizeVarint(a.id)+1+protowire.SizeBytes(len(reply))))
				out = protowire.AppendTag(out, fieldID, protowire.VarintType)
				out = protowire.AppendVarint(out, a.id)
				out = protowire.AppendTag(out, a.field, protowire.BytesType)
				out = protowire.AppendBytes(out, reply)
			}
			binary.BigEndian.PutUint32(out[1:], uint32(len(out)-envelopeBytes))
			_, _ = w.Write(out)
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	b.Cleanup(s.Close)
	return s.URL
}

// requestsOf is parseAnswers for requests.
func requestsOf(msg []byte) []answer {
	var all []answer
	var own answer
	for len(msg) > 0 {
		field, kind, n := protowire.ConsumeTag(msg)
		msg = msg[n:]
		switch {
		case field == fieldID:
			own.id, n = protowire.ConsumeVarint(msg)
		case field == fieldMore:
			var inner []byte
			inner, n = protowire.ConsumeBytes(msg)
			all = append(all, requestsOf(inner)...)
		case kind == protowire.BytesType:
			own.field = field
			own.body, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(field, kind, msg)
		}
		msg = msg[n:]
	}
	return append(all, own)
}

func marshal(b *testing.B, m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

func processCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStream is one operation over a stream, at so many callers at once. cpu-ns/op is that of the
// whole process, the server's transport included.
func BenchmarkStream(b *testing.B) {
	value := make([]byte, 128)
	for _, callers := range []int{1, 8, 64, 512} {
		for name, do := range map[string]func(*Client) error{
			"get": func(c *Client) error { _, err := c.Get(b.Context(), "user/1234567"); return err },
			"put": func(c *Client) error { _, err := c.Put(b.Context(), "user/1234567", value); return err },
		} {
			b.Run(fmt.Sprintf("%s/%s", name, strconv.Itoa(callers)), func(b *testing.B) {
				c, err := New([]string{stubServer(b, len(value))})
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				if err := do(c); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := processCPU(b)
				var wg sync.WaitGroup
				for w := range callers {
					wg.Go(func() {
						for i := w; i < b.N; i += callers {
							if err := do(c); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(processCPU(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
