// Without validatorUrl the page would ask a service elsewhere whether the document is valid.
SwaggerUIBundle({ url: 'openapi.json', dom_id: '#swagger-ui', validatorUrl: null });
