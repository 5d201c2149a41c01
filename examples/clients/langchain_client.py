"""LangChain through the gateway; needs langchain-openai.

OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=… python langchain_client.py
"""

import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="turnout", base_url=os.environ["OPENAI_BASE_URL"])
print("whole:", model.invoke("Prove that the square root of 2 is irrational.").content)
print("streamed:", "".join(str(chunk.content) for chunk in model.stream("Hello!")))
