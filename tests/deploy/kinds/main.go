// Reads objects of custom kinds, as YAML documents, and decodes each into the type that its project publishes. A field
// that the type does not have, or that has another type there, is an error, as it is for an API server that validates
// strictly. Prints a line for each error; the exit status is 1 if there was one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	envoy "github.com/envoyproxy/gateway/api/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	mesh "istio.io/api/mesh/v1alpha1"
	security "istio.io/api/security/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	gatewaybeta "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

type kind struct{ APIVersion, Kind string }

var structs = map[kind]func() any{
	{"gateway.networking.k8s.io/v1", "HTTPRoute"}:           func() any { return &gateway.HTTPRoute{} },
	{"gateway.networking.k8s.io/v1beta1", "ReferenceGrant"}: func() any { return &gatewaybeta.ReferenceGrant{} },
	{"gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"}:    func() any { return &envoy.SecurityPolicy{} },
	{"monitoring.coreos.com/v1", "ServiceMonitor"}:          func() any { return &monitoring.ServiceMonitor{} },
	{"monitoring.coreos.com/v1", "PrometheusRule"}:          func() any { return &monitoring.PrometheusRule{} },
}

// What `spec` is in these: their Go types ignore unknown fields, protojson does not.
var messages = map[kind]func() proto.Message{
	{"security.istio.io/v1", "AuthorizationPolicy"}: func() proto.Message { return &security.AuthorizationPolicy{} },
	{"mesh.istio.io/v1alpha1", "MeshConfig"}:        func() proto.Message { return &mesh.MeshConfig{} },
}

func main() {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	failed := false
	for {
		document, err := documents.Read()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = decode(document)
		}
		if err != nil {
			failed = true
			fmt.Println(err)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func decode(document []byte) error {
	var head struct {
		kind
		Metadata struct{ Name string }
		Spec     json.RawMessage
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return err
	}
	var err error
	if of, known := structs[head.kind]; known {
		err = yaml.UnmarshalStrict(document, of())
	} else if of, known := messages[head.kind]; known {
		err = protojson.Unmarshal(head.Spec, of())
	} else {
		err = fmt.Errorf("no type of this kind is known here")
	}
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", head.APIVersion, head.Kind, head.Metadata.Name, err)
	}
	return nil
}
