package awslogin

import (
	"context"
	"errors"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

// Function is the [Account] of a Lambda function: Lambda names the region, and gives the credentials of the function's
// role in its environment, or at an address that is named there.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func Function(context.Context) (aws.Config, error) {
	account := aws.Config{Region: os.Getenv("AWS_REGION")}
	if url := os.Getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER"); url != "" {
		account.BaseEndpoint = &url // such as that of a VPC
	}
	switch key, place := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); {
	case key != "":
		account.Credentials = credentials.NewStaticCredentialsProvider(key, os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"))
	case place != "":
		account.Credentials = aws.NewCredentialsCache(endpointcreds.New(place, func(o *endpointcreds.Options) {
			o.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		}))
	default:
		return account, errors.New("the environment has no credentials of AWS: neither AWS_ACCESS_KEY_ID nor AWS_CONTAINER_CREDENTIALS_FULL_URI")
	}
	return account, nil
}
