package gateway_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core/emf"
)

// environment returns the variables of the only container of a task.
func environment(t *testing.T, task any) map[string]any {
	t.Helper()
	containers, _ := get(task, "ContainerDefinitions").([]any)
	if len(containers) != 1 {
		t.Fatalf("want one container, got %v", containers)
	}
	variables := map[string]any{}
	for _, v := range get(containers[0], "Environment").([]any) {
		variables[get(v, "Name").(string)] = get(v, "Value")
	}
	return variables
}

// TestANewVersionOfTheFunctionComesLittleByLittle where that is wanted: clients reach the alias, whose traffic moves from
// version to version, and moves back when the function fails.
func TestANewVersionOfTheFunctionComesLittleByLittle(t *testing.T) {
	for _, gradual := range []string{"false", "true"} {
		parameters := map[string]string{"GradualDeployment": gradual}
		maps.Copy(parameters, gatewayStack)
		s := newStack(t, processed(t, "GradualDeployment="+gradual), parameters)
		suffix, invoked := "${PollFunction.Arn}/invocations", "map[Ref:PollFunction]"
		if gradual == "true" {
			suffix, invoked = "${PollFunction.Arn}:live/invocations", "map[Ref:PollFunctionAliaslive]"
		}
		for path, methods := range get(s.one("AWS::ApiGatewayV2::Api"), "Body", "paths").(map[string]any) {
			for _, operation := range methods.(map[string]any) {
				uri := fmt.Sprint(get(operation, "x-amazon-apigateway-integration", "uri", "Fn::Sub"))
				if !strings.HasSuffix(uri, "/functions/"+suffix) {
					t.Errorf("GradualDeployment=%s: %s: want an integration with %s, got %s", gradual, path, suffix, uri)
				}
			}
		}
		if got := fmt.Sprint(get(s.one("AWS::Lambda::Permission"), "FunctionName")); got != invoked {
			t.Errorf("GradualDeployment=%s: want the API to be permitted %s, got %s", gradual, invoked, got)
		}
		alias := s.resources["PollFunctionAliaslive"]
		if get(alias, "Properties", "Name") != "live" {
			t.Errorf("want the alias to be called live, as the integration says, got %v", alias)
		}
		groups := s.ofType("AWS::CodeDeploy::DeploymentGroup")
		if gradual == "false" {
			if len(groups) > 0 || get(alias, "UpdatePolicy") != nil {
				t.Errorf("want nothing deployed gradually unless it is wanted, got %v and %v", groups, alias)
			}
			continue
		}
		group := s.one("AWS::CodeDeploy::DeploymentGroup")
		if get(alias, "UpdatePolicy", "CodeDeployLambdaAliasUpdate") == nil {
			t.Errorf("want the alias to be moved by CodeDeploy, got %v", alias)
		}
		if got := fmt.Sprint(get(group, "AlarmConfiguration")); got != "map[Alarms:[map[Name:map[Ref:PollErrors]]] Enabled:true]" {
			t.Errorf("want the alarm about errors to stop a deployment, got %s", got)
		}
		rollback := fmt.Sprint(get(group, "AutoRollbackConfiguration"))
		if !strings.Contains(rollback, "Enabled:true") || !strings.Contains(rollback, "DEPLOYMENT_STOP_ON_ALARM") {
			t.Errorf("want a stopped deployment rolled back, got %s", rollback)
		}
		alarm := get(s.resources["PollErrors"], "Properties")
		seconds := get(alarm, "Period").(float64) * get(alarm, "EvaluationPeriods").(float64)
		if seconds > 5*60/2 {
			t.Errorf("want the alarm to ring well within the shortest canary of 5 minutes, got %v s", seconds)
		}
		if get(alarm, "Namespace") != "AWS/Lambda" || get(alarm, "MetricName") != "Errors" || !strings.Contains(fmt.Sprint(get(alarm, "Dimensions")), "map[Ref:PollFunction]") {
			t.Errorf("want the alarm about the function's errors, got %v", alarm)
		}
	}
}

// TestStreamsScaleOnSessions: the metric that is followed is the one that the containers write.
func TestStreamsScaleOnSessions(t *testing.T) {
	parameters := map[string]string{"DeployStream": "true", "StreamCount": "3", "StreamCountMax": "7", "StreamSessions": "4000"}
	maps.Copy(parameters, gatewayStack)
	s := newStack(t, processed(t), parameters)
	target := s.one("AWS::ApplicationAutoScaling::ScalableTarget")
	if got := fmt.Sprintf("%v %v %v %v", get(target, "MinCapacity"), get(target, "MaxCapacity"), get(target, "ScalableDimension"), get(target, "ResourceId")); got != "3 7 ecs:service:DesiredCount map[Fn::Sub:service/${StreamCluster}/${StreamService.Name}]" {
		t.Errorf("want 3 to 7 of the service's containers, got %s", got)
	}
	if got := get(s.one("AWS::ECS::Service"), "DesiredCount"); got != nil {
		t.Errorf("want the number of containers left to the scaling, got %v", got)
	}
	policy := s.one("AWS::ApplicationAutoScaling::ScalingPolicy")
	tracking := get(policy, "TargetTrackingScalingPolicyConfiguration")
	if get(policy, "PolicyType") != "TargetTrackingScaling" || get(tracking, "TargetValue") != "4000" || fmt.Sprint(get(policy, "ScalingTargetId")) != "map[Ref:StreamScaling]" {
		t.Errorf("want 4000 sessions for each container, got %v", policy)
	}
	service := environment(t, get(s.resources["StreamTask"], "Properties"))["CLOUDWATCH_METRICS"]
	want := fmt.Sprint(map[string]any{
		"Namespace": emf.Namespace, "MetricName": "Sessions", "Statistic": "Average", "Unit": "Count",
		"Dimensions": []any{map[string]any{"Name": "Service", "Value": service}},
	})
	if got := fmt.Sprint(get(tracking, "CustomizedMetricSpecification")); service == nil || got != want {
		t.Errorf("want the metric that each container writes, %s, got %s", want, got)
	}
}

// TestTheMigrationRunsAsTheOwner, in a task of its own that needs no streams, and nothing else gets the owner's secret.
func TestTheMigrationRunsAsTheOwner(t *testing.T) {
	template := processed(t)
	parameters := map[string]string{"MigrateImage": "stream:2", "OwnerSecretArn": ownerARN}
	maps.Copy(parameters, gatewayStack)
	s := newStack(t, template, parameters)
	task := s.one("AWS::ECS::TaskDefinition")
	container := get(task, "ContainerDefinitions").([]any)[0]
	if get(container, "Image") != "stream:2" || fmt.Sprint(get(container, "Command")) != "[migrate]" {
		t.Errorf("want stream migrate of the new image, got %v", container)
	}
	if get(container, "PortMappings") != nil || get(container, "ReadonlyRootFilesystem") != true || get(container, "User") != "65532:65532" {
		t.Errorf("want a container that listens nowhere and may do little, got %v", container)
	}
	if got := environment(t, task); got["DATABASE_SECRET_ARN"] != ownerARN || got["DATABASE_AUTH"] != nil {
		t.Errorf("want it to sign in as the owner, with a password, got %v", got)
	}
	if fmt.Sprint(get(task, "TaskRoleArn")) != "map[Fn::GetAtt:[MigrateRole Arn]]" {
		t.Errorf("want its own role, got %v", get(task, "TaskRoleArn"))
	}
	for _, kind := range []string{"AWS::ECS::Service", "AWS::ElasticLoadBalancingV2::LoadBalancer"} {
		if found := s.ofType(kind); len(found) > 0 {
			t.Errorf("without streams: want no %s, got %v", kind, found)
		}
	}
	for name, r := range s.resources {
		if name != "MigrateTask" && name != "MigrateRole" && strings.Contains(fmt.Sprint(r), ownerARN) {
			t.Errorf("want %s to know nothing of the owner's secret, got %v", name, r)
		}
	}
	if found := newStack(t, template, gatewayStack).ofType("AWS::ECS::TaskDefinition"); len(found) > 0 {
		t.Errorf("want no task unless it is wanted, got %v", found)
	}
}

// TestStreamsOfTheFunction are there only if they are wanted, check tokens themselves, and are not cut off by what is around them.
func TestStreamsOfTheFunction(t *testing.T) {
	template := processed(t)
	if s := newStack(t, template, jwtStack); s.resources["StreamFunction"] != nil || len(s.ofType("AWS::ApiGateway::RestApi")) > 0 {
		t.Error("want no streams of a function unless they are wanted")
	}
	parameters := map[string]string{"DeployStreamFunction": "true", "StreamConcurrency": "3"}
	maps.Copy(parameters, jwtStack)
	s := newStack(t, template, parameters)
	function := get(s.resources["StreamFunction"], "Properties")
	variables := get(function, "Environment", "Variables")
	if get(variables, "AUTH") != "jwt" || get(variables, "JWT_JWKS_URL") != parameters["JwtJwksUrl"] || get(variables, "JWT_AUDIENCE") != "events" {
		t.Errorf("want tokens checked, got %v", variables)
	}
	if fmt.Sprintf("%v %v", get(function, "ReservedConcurrentExecutions"), get(function, "Timeout")) != "3 900" {
		t.Errorf("want 3 streams at most, and the longest timeout that there is, got %v", function)
	}
	if fmt.Sprint(get(function, "LoggingConfig", "LogGroup")) != "map[Ref:StreamFunctionLogGroup]" || get(s.resources["StreamFunctionLogGroup"], "Properties", "RetentionInDays") != 30.0 {
		t.Errorf("want a log that is not kept for ever, got %v", function)
	}
	api := s.one("AWS::ApiGateway::RestApi")
	paths := get(api, "Body", "paths").(map[string]any)
	integration := get(paths, "/events", "x-amazon-apigateway-any-method", "x-amazon-apigateway-integration")
	uri := fmt.Sprint(get(integration, "uri", "Fn::Sub"))
	if len(paths) != 1 || !strings.HasSuffix(uri, "/2021-11-15/functions/${StreamFunction.Arn}/response-streaming-invocations") ||
		get(integration, "responseTransferMode") != "STREAM" || get(integration, "timeoutInMillis") != 900_000.0 {
		t.Errorf("want the answers streamed for as long as the function may run, got %v", paths)
	}
	if got := fmt.Sprint(get(api, "EndpointConfiguration", "Types")); got != "[REGIONAL]" {
		t.Errorf("want a regional endpoint, whose streams may be silent for 5 minutes and not for 30 s, got %s", got)
	}
	permission := get(s.resources["StreamFunctionPermission"], "Properties")
	if get(permission, "Principal") != "apigateway.amazonaws.com" || !strings.Contains(fmt.Sprint(get(permission, "SourceArn")), ":${StreamApi}/*") {
		t.Errorf("want only the API to invoke the function, got %v", permission)
	}
}

// TestMetricsAndTracesOfFunctionsAreOffUnlessWanted, for they are paid for.
func TestMetricsAndTracesOfFunctionsAreOffUnlessWanted(t *testing.T) {
	for _, on := range []bool{false, true} {
		parameters := map[string]string{"DeployStreamFunction": "true"}
		tracing := "Tracing=Disabled"
		if on {
			parameters["FunctionMetrics"], parameters["Tracing"], tracing = "true", "Active", "Tracing=Active"
		}
		maps.Copy(parameters, jwtStack)
		s := newStack(t, processed(t, tracing), parameters)
		for _, name := range []string{"PollFunction", "StreamFunction"} {
			function := get(s.resources[name], "Properties")
			if metrics := get(function, "Environment", "Variables", "CLOUDWATCH_METRICS"); (metrics != nil) != on {
				t.Errorf("FunctionMetrics=%v: %s writes metrics as %v", on, name, metrics)
			}
			mode := get(function, "TracingConfig", "Mode")
			role := fmt.Sprint(get(s.resources[name+"Role"], "Properties"))
			if want := any("Active"); on && mode != want || !on && mode != nil {
				t.Errorf("%s: %s has %v", tracing, name, mode)
			}
			if strings.Contains(role, "AWSXrayWriteOnlyAccess") != on {
				t.Errorf("%s: the role of %s: %s", tracing, name, role)
			}
		}
		if got := get(s.one("AWS::ApiGateway::Stage"), "TracingEnabled"); got != on {
			t.Errorf("%s: the REST API has %v", tracing, got)
		}
	}
}
