// Made kwok.yaml out of history.jsonl, with KWOK's own code for patches, encoding and times (sigs.k8s.io/kwok v0.8.0):
//
//	go run . < history.jsonl > kwok.yaml
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"sigs.k8s.io/kwok/pkg/kwokctl/recording"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/yaml"
)

type event struct {
	T        int64
	Type     string
	Resource string
	Object   map[string]any
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func meta(v any) strategicpatch.LookupPatchMeta {
	m, err := strategicpatch.NewPatchMetaFromStruct(v)
	must(err)
	return m
}

func main() {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	out := recording.NewWriteHook(os.Stdout, func(b []byte) []byte { return recording.ReplaceTimeToRelative(start, b) })
	encoder := yaml.NewEncoder(out)
	metas := map[string]strategicpatch.LookupPatchMeta{
		"services": meta(&corev1.Service{}), "nodes": meta(&corev1.Node{}), "pods": meta(&corev1.Pod{}),
		"endpointslices": meta(&discoveryv1.EndpointSlice{}),
	}
	tracks := map[string]map[log.ObjectRef]json.RawMessage{}
	for name := range metas {
		tracks[name] = map[log.ObjectRef]json.RawMessage{}
	}
	scan := bufio.NewScanner(os.Stdin)
	scan.Buffer(nil, 1<<26)
	scan.Scan()
	for scan.Scan() {
		var e event
		must(json.Unmarshal(scan.Bytes(), &e))
		if e.Type != "ADDED" && e.Type != "MODIFIED" && e.Type != "DELETED" {
			continue
		}
		obj := &unstructured.Unstructured{Object: e.Object}
		track := tracks[e.Resource]
		if e.T == 0 {
			obj.SetResourceVersion("")
			raw, _ := json.Marshal(obj)
			track[log.KObj(obj)] = raw
			must(encoder.Encode(obj))
			continue
		}
		rp := recording.ResourcePatch{}
		rp.TypeMeta = recording.ResourcePatchType
		gvr := schema.GroupVersionResource{Version: "v1", Resource: e.Resource}
		if e.Resource == "endpointslices" {
			gvr.Group = "discovery.k8s.io"
		}
		rp.SetTargetGroupVersionResource(gvr)
		rp.SetTargetName(obj.GetName(), obj.GetNamespace())
		rp.SetDuration(time.Duration(e.T))
		if e.Type == "DELETED" {
			rp.SetDelete(obj, track)
		} else {
			must(rp.SetContent(obj, track, metas[e.Resource]))
		}
		must(encoder.Encode(&rp))
	}
	must(scan.Err())
}
