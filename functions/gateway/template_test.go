package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// processed returns what AWS gets: the template after SAM's transform, which a few parameters (NAME=VALUE) matter to. SAM
// is installed by `make lambda`, which runs these tests; without it there is nothing to read.
func processed(t *testing.T, parameters ...string) map[string]any {
	t.Helper()
	root := filepath.Join("..", "..")
	python, err := filepath.Abs(filepath.Join(root, ".tools", "sam", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		t.Skip("SAM is not installed: make lambda installs it and runs this test")
	}
	out, err := transform(python, parameters)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		t.Fatalf("process the template: %s", exit.Stderr)
	} else if err != nil {
		t.Fatalf("process the template: %v", err)
	}
	var template map[string]any
	if err := json.Unmarshal(out, &template); err != nil {
		t.Fatalf("read the processed template: %v", err)
	}
	return template
}

// transformed are the templates that were processed already, by their parameters: each takes some seconds.
var transformed = map[string][]byte{}

func transform(python string, parameters []string) ([]byte, error) {
	key := strings.Join(parameters, " ")
	if out, ok := transformed[key]; ok {
		return out, nil
	}
	out, err := exec.Command(python, append([]string{filepath.Join("..", "..", "deploy", "sam", "processed")}, parameters...)...).Output()
	if err == nil {
		transformed[key] = out
	}
	return out, err
}

const secretARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:events-AbCdEf"
const ownerARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner-AbCdEf"

var (
	gatewayStack = map[string]string{"Auth": "gateway", "JwtIssuer": "https://login.example.com/", "JwtAudience": "events", "DatabaseSecretArn": secretARN}
	jwtStack     = map[string]string{"Auth": "jwt", "JwtAudience": "events", "JwtJwksUrl": "https://login.example.com/keys", "DatabaseSecretArn": secretARN}
)

// TestNoClientChoosesWhoseEventsItReads looks at every way to the function, for both kinds of authentication.
func TestNoClientChoosesWhoseEventsItReads(t *testing.T) {
	template := processed(t)
	for _, parameters := range []map[string]string{gatewayStack, jwtStack} {
		auth := parameters["Auth"]
		t.Run(auth, func(t *testing.T) {
			s := newStack(t, template, parameters)
			api := s.one("AWS::ApiGatewayV2::Api")
			paths := get(api, "Body", "paths").(map[string]any)
			if len(paths) != 2 || paths["/events/poll"] == nil || paths["/$default"] == nil {
				t.Errorf("want the routes of polls and of everything else, got %v", paths)
			}
			for path, methods := range paths {
				for method, operation := range methods.(map[string]any) {
					checkRoute(t, method+" "+path, operation, auth == "gateway" && path == "/events/poll")
				}
			}
			schemes, _ := get(api, "Body", "components", "securitySchemes").(map[string]any)
			if auth == "gateway" {
				jwt := get(schemes, "tokens", "x-amazon-apigateway-authorizer")
				want := map[string]any{
					"type": "jwt", "identitySource": "$request.header.Authorization",
					"jwtConfiguration": map[string]any{"issuer": parameters["JwtIssuer"], "audience": []any{parameters["JwtAudience"]}},
				}
				if fmt.Sprint(jwt) != fmt.Sprint(want) {
					t.Errorf("the authorizer: got %v, want %v", jwt, want)
				}
			} else if len(schemes) != 0 {
				t.Errorf("the service checks tokens itself: want no authorizer, got %v", schemes)
			}
			if get(api, "FailOnWarnings") != true {
				t.Error("want an import of the routes that is not understood to fail the deployment")
			}

			// There is no other door: no Function URL, no route beside the document, one API that may invoke.
			for _, kind := range []string{"AWS::Lambda::Url", "AWS::ApiGatewayV2::Route", "AWS::ApiGateway::RestApi"} {
				if found := s.ofType(kind); len(found) > 0 {
					t.Errorf("want no %s, got %v", kind, found)
				}
			}
			permission := s.one("AWS::Lambda::Permission")
			if source := fmt.Sprint(get(permission, "SourceArn")); get(permission, "Principal") != "apigateway.amazonaws.com" || !strings.Contains(source, ":${Api}/*") {
				t.Errorf("want only the API to invoke the function, got %v", permission)
			}

			variables := get(s.resources["PollFunction"], "Properties", "Environment", "Variables")
			if get(variables, "AUTH") != auth {
				t.Errorf("the function's AUTH: got %v, want %s", get(variables, "AUTH"), auth)
			}
			for setting, parameter := range map[string]string{"JWT_AUDIENCE": "JwtAudience", "JWT_JWKS_URL": "JwtJwksUrl"} {
				if got := get(variables, setting); auth == "jwt" && got != parameters[parameter] {
					t.Errorf("%s: got %v, want %s", setting, got, parameters[parameter])
				}
			}
		})
	}
}

// checkRoute: the header that says who is asking is the token's subject, or is taken away.
func checkRoute(t *testing.T, route string, operation any, secured bool) {
	t.Helper()
	integration := get(operation, "x-amazon-apigateway-integration")
	security := "[]"
	want := map[string]any{"remove:header.x-consumer-id": "''", "remove:header.x-consumer-topics": "''"}
	if secured {
		security = "[map[tokens:[]]]"
		want = map[string]any{"overwrite:header.x-consumer-id": "$context.authorizer.claims.sub", "remove:header.x-consumer-topics": "''"}
	}
	if got := get(operation, "security"); fmt.Sprint(got) != security && (secured || got != nil) {
		t.Errorf("%s: got security %v, want %s", route, got, security)
	}
	if got := get(integration, "requestParameters"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got the mapping %v, want %v", route, got, want)
	}
	if get(integration, "payloadFormatVersion") != "2.0" || get(integration, "type") != "aws_proxy" {
		t.Errorf("%s: want the events that the adapter reads, got %v", route, integration)
	}
	if got := get(integration, "timeoutInMillis"); got != 30_000.0 {
		t.Errorf("%s: want the API to wait as long as it can, 30000 ms, got %v", route, got)
	}
}

// TestTheLoadBalancerShowsOnlyWhatIsPublic, and closes idle connections before the containers do.
func TestTheLoadBalancerShowsOnlyWhatIsPublic(t *testing.T) {
	parameters := map[string]string{"DeployStream": "true"}
	maps.Copy(parameters, gatewayStack)
	s := newStack(t, processed(t), parameters)
	if got := get(s.one("AWS::ElasticLoadBalancingV2::Listener"), "DefaultActions"); !strings.Contains(fmt.Sprint(got), "fixed-response") {
		t.Errorf("want every other path answered by the load balancer itself, got %v", got)
	}
	paths := fmt.Sprint(get(s.one("AWS::ElasticLoadBalancingV2::ListenerRule"), "Conditions"))
	if !strings.Contains(paths, "[/events /events/poll /openapi.* /docs*]") {
		t.Errorf("want the public paths, got %s", paths)
	}
	balancer := fmt.Sprint(get(s.one("AWS::ElasticLoadBalancingV2::LoadBalancer"), "LoadBalancerAttributes"))
	task := fmt.Sprint(get(s.resources["StreamTask"], "Properties"))
	if !strings.Contains(balancer, "map[Key:idle_timeout.timeout_seconds Value:120]") || !strings.Contains(task, "map[Name:IDLE_TIMEOUT Value:150s]") {
		t.Errorf("want the containers' idle timeout of 150 s above the load balancer's of 120 s, got %s and %s", balancer, task)
	}
}

// TestTheFunctionFitsTheAPI: it is what the Makefile builds, and ends before the API gives up.
func TestTheFunctionFitsTheAPI(t *testing.T) {
	s := newStack(t, processed(t), gatewayStack)
	function := get(s.resources["PollFunction"], "Properties")
	if get(function, "Handler") != "bootstrap" || get(function, "Runtime") != "provided.al2023" {
		t.Errorf("want a bootstrap for provided.al2023, got %v", function)
	}
	if timeout, _ := get(function, "Timeout").(float64); timeout <= 0 || timeout >= 30 {
		t.Errorf("the function's timeout is %v s, want it under the API's 30", timeout)
	}
}

// TestRolesPermitOneCallToTheDatabase: the programs read the one secret (postgresql/awslogin), or sign in as the one user.
// What else the roles permit is AWS's managed policies alone, for logs, networks and images.
func TestRolesPermitOneCallToTheDatabase(t *testing.T) {
	template := processed(t)
	iam := map[string]string{"DatabaseAuth": "rds-iam", "DatabaseSecretArn": "", "DatabaseIamUser": "db-ABC/reader"}
	secret := map[string]string{"DatabaseSecretArn": secretARN}
	for want, parameters := range map[string]map[string]string{
		"[map[Action:secretsmanager:GetSecretValue Effect:Allow Resource:" + secretARN + "]]":                                                                     secret,
		"[map[Action:rds-db:connect Effect:Allow Resource:map[Fn::Sub:arn:${AWS::Partition}:rds-db:${AWS::Region}:${AWS::AccountId}:dbuser:${DatabaseIamUser}]]]": iam,
	} {
		maps.Copy(parameters, map[string]string{"DeployStream": "true", "DeployStreamFunction": "true", "MigrateImage": "stream:2", "OwnerSecretArn": ownerARN})
		s := newStack(t, template, parameters)
		wants := map[string]string{
			"PollFunctionRole": want, "StreamFunctionRole": want, "StreamTaskRole": want,
			"MigrateRole": "[map[Action:secretsmanager:GetSecretValue Effect:Allow Resource:" + ownerARN + "]]",
		}
		for name, role := range s.ofType("AWS::IAM::Role") {
			policies, _ := get(role, "Policies").([]any)
			for _, policy := range policies {
				if got := fmt.Sprint(get(policy, "PolicyDocument", "Statement")); got != wants[name] {
					t.Errorf("%s: want it to permit %q alone, got %s", name, wants[name], got)
				}
				delete(wants, name)
			}
		}
		if len(wants) > 0 {
			t.Errorf("want policies for these as well: %v", wants)
		}
	}
}

// TestADeploymentThatLetsAClientChooseIsRefused reads the rules that CloudFormation checks before it makes anything.
func TestADeploymentThatLetsAClientChooseIsRefused(t *testing.T) {
	template := processed(t)
	rules := template["Rules"].(map[string]any)
	with := func(stack map[string]string, parameters ...string) map[string]string {
		stack = maps.Clone(stack)
		for _, p := range parameters {
			name, value, _ := strings.Cut(p, "=")
			stack[name] = value
		}
		return stack
	}
	streams := []string{"DeployStream=true", "StreamImage=stream:1", "StreamCertificateArn=arn:aws:acm:x", "StreamLoadBalancerSubnetIds=subnet-1,subnet-2"}
	for name, parameters := range map[string]map[string]string{
		"no password":                          with(jwtStack, "DatabaseSecretArn="),
		"tokens of IAM for any user":           with(jwtStack, "DatabaseSecretArn=", "DatabaseAuth=rds-iam", "DatabaseUrl=postgres://reader@db/app"),
		"gateway without an issuer":            with(gatewayStack, "JwtIssuer="),
		"gateway without an audience":          with(gatewayStack, "JwtAudience="),
		"tokens without keys":                  with(jwtStack, "JwtJwksUrl="),
		"tokens without an audience":           with(jwtStack, "JwtAudience="),
		"a public stream that believes":        with(gatewayStack, append(streams, "StreamScheme=internet-facing")...),
		"streams without an image":             with(gatewayStack, append(streams, "StreamImage=")...),
		"streams without a certificate":        with(gatewayStack, append(streams, "StreamCertificateArn=")...),
		"streams without subnets":              with(gatewayStack, append(streams, "StreamLoadBalancerSubnetIds=")...),
		"a stream function that believes":      with(gatewayStack, "DeployStreamFunction=true"),
		"a migration as the reader":            with(gatewayStack, "MigrateImage=stream:1"),
		"the owner's secret without a purpose": with(gatewayStack, "OwnerSecretArn="+ownerARN),
	} {
		if !newStack(t, template, parameters).refused(rules) {
			t.Errorf("%s: want the deployment refused, no rule does", name)
		}
	}
	for name, parameters := range map[string]map[string]string{
		"gateway": gatewayStack, "jwt": jwtStack,
		"streams":           with(gatewayStack, streams...),
		"public streams":    with(jwtStack, append(streams, "StreamScheme=internet-facing")...),
		"a stream function": with(jwtStack, "DeployStreamFunction=true"),
		"a migration":       with(gatewayStack, "MigrateImage=stream:1", "OwnerSecretArn="+ownerARN),
		"tokens of IAM":     with(jwtStack, "DatabaseSecretArn=", "DatabaseAuth=rds-iam", "DatabaseUrl=postgres://reader@db/app", "DatabaseIamUser=db-ABC/reader"),
	} {
		if newStack(t, template, parameters).refused(rules) {
			t.Errorf("%s: want the deployment allowed, a rule refuses it", name)
		}
	}
}
