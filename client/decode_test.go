package client

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The numbers in decode.go must be those of the contract.
func TestCommonDecodingIsProtobufs(t *testing.T) {
	info := &atollv1.ReplyInfo{Region: "eu", Node: "eu-1", Partition: 3, Epoch: 7, Served: 1, Staleness: durationpb.New(time.Second), Session: []byte("s")}
	for name, tc := range map[string]struct {
		field  protowire.Number
		reply  proto.Message
		common bool
	}{
		"register":    {fieldGet, &atollv1.GetResponse{Found: true, Value: []byte("x"), Type: atollv1.Type_TYPE_LWW_REGISTER, Version: "v", Info: info}, true},
		"absent":      {fieldGet, &atollv1.GetResponse{Info: info}, true},
		"empty value": {fieldGet, &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_LWW_REGISTER}, true},
		"expiring":    {fieldGet, &atollv1.GetResponse{Found: true, Ttl: durationpb.New(time.Second)}, false},
		"counter": {fieldGet, &atollv1.GetResponse{Found: true, Typed: &atollv1.TypedValue{
			Value: &atollv1.TypedValue_Counter{Counter: &atollv1.CounterValue{Value: 1}},
		}}, false},
		"put": {fieldPut, &atollv1.PutResponse{Version: "v", Info: info}, true},
		"add": {fieldUpdate, counterResult(3), false},
	} {
		raw, err := proto.Marshal(tc.reply)
		noError(t, err)
		r := &request{}
		if got := r.decodeCommon(&call{field: tc.field, buf: raw}); got != tc.common {
			t.Errorf("%s: decoded is %v", name, got)
		} else if got {
			want := proto.CloneOf(tc.reply)
			want.ProtoReflect().Clear(want.ProtoReflect().Descriptor().Fields().ByName("info"))
			if !proto.Equal(r.reply, want) {
				t.Errorf("%s: decoded as %v, want %v", name, r.reply, want)
			}
		}
	}
	raw, err := proto.Marshal(info)
	noError(t, err)
	equal(t, "node", string(nodeOf(raw)), "eu-1")
}

func FuzzDecodeCommon(f *testing.F) {
	raw, err := proto.Marshal(&atollv1.GetResponse{Found: true, Value: []byte("x"), Version: "v", Info: &atollv1.ReplyInfo{Node: "n"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got, want atollv1.GetResponse
		info, ok := decodeGet(raw, &got)
		if !ok {
			return
		}
		nodeOf(info)
		if err := proto.Unmarshal(raw, &want); err != nil {
			return // a fault inside info, which is not looked at
		}
		want.Info = nil
		if !proto.Equal(&got, &want) {
			t.Errorf("decoded as %v, want %v", &got, &want)
		}
	})
}

func FuzzParseAnswers(f *testing.F) {
	f.Add([]byte{8, 1, 18, 0})
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_ = parseAnswers(raw, func(answer) {})
		parseEnd(raw)
	})
}
