"""OpenAI's SDK through the gateway.

OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=… python openai_sdk.py
"""

from openai import OpenAI

client = OpenAI()

asked = [{"role": "user", "content": "Prove that the square root of 2 is irrational."}]
answer = client.chat.completions.with_raw_response.create(model="turnout", messages=asked)
print("chat:", answer.parse().choices[0].message.content)
print("went to:", answer.headers["x-turnout-class"], "because", answer.headers["x-turnout-reason"])

print("responses:", end=" ")
with client.responses.stream(model="turnout", input="Hello!") as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="")
print()

# A conversation can be named; else its messages tell which one it is.
named = client.with_options(default_headers={"x-turnout-conversation-id": "ticket-4471"})
answer = named.chat.completions.create(
    model="turnout", messages=[{"role": "user", "content": "Hello!"}]
)
print("named:", answer.choices[0].message.content)
