package runnerrpc

import (
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
)

// golden are messages with their bytes, made by hand from the numbers and types of
// the fields: a tag is number*8 plus 0 for numbers and 2 for what has a length, and a
// number goes in groups of 7 bits, the lowest first. A blank is between fields.
var golden = []struct {
	name    string
	message proto.Message
	bytes   string
}{
	{
		"TryCall", &runnerpb.TryCall{ModelsCallJson: "{}", SlotHashId: "ab", Extensions: map[string]string{"k": "v"}},
		"0a027b7d 12026162 1a06 0a016b 120176",
	},
	{"DataFrame", &runnerpb.DataFrame{Data: []byte("hi"), Eof: true}, "0a026869 1001"},
	{"DataFrame, empty", &runnerpb.DataFrame{Eof: true}, "1001"},
	{"HttpHeader", &runnerpb.HttpHeader{Key: "A", Value: "b"}, "0a0141 120162"},
	{
		"HttpRespMeta", &runnerpb.HttpRespMeta{StatusCode: 200, Headers: []*runnerpb.HttpHeader{{Key: "A", Value: "b"}, {Key: "A"}}},
		"08c801 1206 0a0141 120162 1203 0a0141",
	},
	{
		// 100*8+2 = 802 = 6*128+34
		"CallResultStart", &runnerpb.CallResultStart{Meta: &runnerpb.CallResultStart_Http{Http: &runnerpb.HttpRespMeta{StatusCode: 202}}},
		"a206 03 08ca01",
	},
	{
		"CallFinished", &runnerpb.CallFinished{
			Success: true, Details: "id", ErrorCode: 502, ErrorStr: "e", CreatedAt: "c", StartedAt: "s", CompletedAt: "d",
			SchedulerDuration: 1, ExecutionDuration: 300, ErrorUser: true, Image: "i",
			ImagePullWaitDuration: 2, CtrPrepDuration: 3, CtrCreateDuration: 4, InitStartTime: 5,
		},
		"0801 12026964 18f603 220165 2a0163 320173 3a0164 4001 48ac02 5001 5a0169 6002 6803 7004 7805",
	},
	{
		"CallFinished, negative", &runnerpb.CallFinished{ErrorCode: -1},
		"18ffffffffffffffffff01",
	},
	{
		"ClientMsg with a try", &runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Try{Try: &runnerpb.TryCall{ModelsCallJson: "{}"}}},
		"0a04 0a027b7d",
	},
	{
		"ClientMsg with data", &runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Data{Data: &runnerpb.DataFrame{Eof: true}}},
		"1202 1001",
	},
	{
		"RunnerMsg with a beginning", &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_ResultStart{ResultStart: &runnerpb.CallResultStart{}}},
		"0a00",
	},
	{
		"RunnerMsg with data", &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Data{Data: &runnerpb.DataFrame{Data: []byte("x")}}},
		"1203 0a0178",
	},
	{
		"RunnerMsg with an end", &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Finished{Finished: &runnerpb.CallFinished{Success: true}}},
		"1a02 0801",
	},
	{
		// From the field 16 on a tag takes two bytes: 16*8 = 128.
		"RunnerStatus", &runnerpb.RunnerStatus{
			Active: 1, Failed: true, Id: "i", Details: "d", ErrorCode: 450, ErrorStr: "e", CreatedAt: "c", StartedAt: "s", CompletedAt: "f",
			Cached: true, RequestsReceived: 2, RequestsHandled: 3, KdumpsOnDisk: 4, SchedulerDuration: 5, ExecutionDuration: 6,
			IsNetworkDisabled: true, CustomStatus: map[string]string{"k": "v"}, ImagePullWaitDuration: 7, CtrPrepDuration: 8,
			CtrCreateDuration: 9, InitStartTime: 10,
		},
		"1001 1801 220169 2a0164 30c203 3a0165 420163 4a0173 520166 5801 6002 6803 7004 7805 800106 880101 920106 0a016b 120176 980107 a00108 a80109 b0010a",
	},
	{"ConfigMsg", &runnerpb.ConfigMsg{Config: map[string]string{"k": "v"}}, "0a06 0a016b 120176"},
	{"ConfigStatus", &runnerpb.ConfigStatus{}, ""},
	{
		"LogRequestMsg with a start", &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Start_{Start: &runnerpb.LogRequestMsg_Start{Config: map[string]string{"k": "v"}}}},
		"0a08 0a06 0a016b 120176",
	},
	{"LogRequestMsg with an ack", &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Ack_{Ack: &runnerpb.LogRequestMsg_Ack{}}}, "1200"},
	{"LogRequestMsg with a ready", &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Ready_{Ready: &runnerpb.LogRequestMsg_Ready{}}}, "1a00"},
	{
		"LogResponseMsg", &runnerpb.LogResponseMsg{Data: []*runnerpb.LogResponseMsg_Container{{
			ApplicationId: "a", FunctionId: "f", ContainerId: "c",
			Data: []*runnerpb.LogResponseMsg_Container_Request{{
				RequestId: "r",
				Data: []*runnerpb.LogResponseMsg_Container_Request_Line{{
					Timestamp: 300, Source: runnerpb.LogResponseMsg_Container_Request_Line_STDERR, Data: []byte("l"),
				}},
			}},
		}}},
		"0a18 0a0161 120166 1a0163 220d 0a0172 1208 08ac02 1001 1a016c",
	},
}

func TestMessagesAreOnTheWireAsFnHasThem(t *testing.T) {
	for _, test := range golden {
		want, err := hex.DecodeString(strings.ReplaceAll(test.bytes, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got, err := proto.MarshalOptions{Deterministic: true}.Marshal(test.message)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: got %x, %v\nwant %x", test.name, got, err, want)
		}
		read := test.message.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(want, read); err != nil || !proto.Equal(read, test.message) {
			t.Errorf("%s: read as %v, %v", test.name, read, err)
		}
	}
}

// Every message of the protocol is in the table, and every field of it is set once.
func TestEveryFieldIsInTheTable(t *testing.T) {
	set := map[string]bool{}
	var note func(m proto.Message)
	note = func(m proto.Message) {
		for field, value := range m.ProtoReflect().Range {
			set[string(field.FullName())] = true
			switch {
			case field.IsMap() || field.Message() == nil:
			case field.IsList():
				for i := range value.List().Len() {
					note(value.List().Get(i).Message().Interface())
				}
			default:
				note(value.Message().Interface())
			}
		}
	}
	for _, test := range golden {
		note(test.message)
	}
	var check func(protoreflect.MessageDescriptors)
	check = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			message := messages.Get(i)
			if message.IsMapEntry() {
				continue
			}
			for j := range message.Fields().Len() {
				if name := string(message.Fields().Get(j).FullName()); !set[name] {
					t.Errorf("%s is not in the table", name)
				}
			}
			check(message.Messages())
		}
	}
	check(runnerpb.File_runner_proto.Messages())
	if name := runnerpb.RunnerProtocol_ServiceDesc.ServiceName; name != "RunnerProtocol" {
		t.Errorf("the service is called %s", name)
	}
}
