"""The notebook's loop: one prompt at a time, its SageMaker endpoint first, Claude second."""

import json
import sys
from pathlib import Path
from typing import Any

import boto3


def main(url: str, prompts: list[str]) -> None:
    """Ask both models each prompt, as the notebook's cells do."""
    runtime: Any = boto3.client("sagemaker-runtime", endpoint_url=url)
    bedrock: Any = boto3.client("bedrock-runtime", endpoint_url=url)
    counts = {"answered": 0, "errors": 0}
    for prompt in prompts:
        for ask, client in ((ask_endpoint, runtime), (ask_claude, bedrock)):
            try:
                text = ask(client, prompt)
            except Exception as error:  # the notebook's way: whatever it is becomes the answer
                text = f"[generation failed: {error}]"
            counts["errors" if text.startswith("[") else "answered"] += 1
    sys.stdout.write(json.dumps(counts) + "\n")


def ask_endpoint(client: Any, prompt: str) -> str:
    """Send raw text, as HuggingFacePredictor does (SageMaker Runtime: InvokeEndpoint)."""
    body = {"inputs": prompt, "parameters": {"max_new_tokens": 500, "temperature": 0.9}}
    answer = client.invoke_endpoint(
        EndpointName="qwen25", Body=json.dumps(body), ContentType="application/json"
    )
    text: str = json.loads(answer["Body"].read())[0]["generated_text"]
    return text


def ask_claude(client: Any, prompt: str) -> str:
    """Send a message in Anthropic's format (Bedrock Runtime: InvokeModel)."""
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 512,
        "temperature": 0.7,
    }
    answer = client.invoke_model(
        modelId="us.anthropic.claude-sonnet-4-6",
        body=json.dumps(body),
        contentType="application/json",
    )
    text: str = json.loads(answer["body"].read())["content"][0]["text"]
    return text


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    main(sys.argv[1], [row["prompt"] for row in rows])
