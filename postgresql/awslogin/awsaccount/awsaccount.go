// Package awsaccount finds AWS's region and credentials as every AWS program finds them: by environment, profile, role of the
// task, web identity of a pod, instance. It stands apart from package awslogin for the clients of four services that this
// takes, which a function has no use for.
package awsaccount

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Find is the [awslogin.Account] of containers and commands.
func Find(ctx context.Context) (aws.Config, error) {
	account, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return account, fmt.Errorf("find AWS's region and credentials: %w", err)
	}
	return account, nil
}
