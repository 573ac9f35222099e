"""An audit in nine steps that survives its own crashes, and is over when every test step of its features has passed.

::

    python examples/security_audit.py                        # interrupt it whenever you like, and start it again
    eventlog session show audit-2026-01-15                   # how far it is
    eventlog feature show audit-2026-01-15 auth-hardening    # who verified what, when

It is written for Aegis Memory, but for its import line: no server is needed. Offline unless MODEL names a model, e.g.
MODEL=gpt-4o-mini with OPENAI_API_KEY.
"""

import os
from typing import Any

from crewai import Agent, Crew, Task

from eventlog.aegis import AegisAgentMemory, AegisClient, AegisCrewMemory
from eventlog.testing import ScriptedLLM

SESSION = "audit-2026-01-15"
SCANS = ["scan-dependencies", "analyze-auth-module", "analyze-api-endpoints", "analyze-data-layer"]
FIXES = ["generate-fix-auth", "generate-fix-api", "generate-fix-data"]
ITEMS = [*SCANS, *FIXES, "verify-fixes", "compile-report"]
FEATURES = {
    "auth-hardening": [
        "SQL injection in login endpoint patched",
        "Session tokens use secure random generation",
        "Password hashing uses bcrypt with cost >= 12",
        "Rate limiting on authentication endpoints",
    ],
    "api-security": [
        "Input validation on all endpoints",
        "CORS configuration restricts origins",
        "API keys are not exposed in responses",
        "Rate limiting on public endpoints",
    ],
}


def answer(messages: list[Any], _tools: list[str]) -> str:
    """Say what a model might say, so that this runs without one."""
    asked = str(messages[-1]["content"])
    return "PASS: the patch does that." if "PASS or FAIL" in asked else "SQL injection in login: use parameters."


llm = os.environ.get("MODEL") or ScriptedLLM(script=answer)
scanner = Agent(role="Security Scanner", goal="Identify vulnerabilities", backstory="Knows the OWASP Top 10", llm=llm)
fixer = Agent(role="Security Fixer", goal="Generate patches", backstory="Writes secure code", llm=llm)
verifier = Agent(role="Patch Verifier", goal="Verify the patches", backstory="Has tested for years", llm=llm)

client = AegisClient()
crew_memory = AegisCrewMemory(namespace="security-audit", default_scope="agent-shared")
memory = {name: AegisAgentMemory(crew_memory, name) for name in ("scanner", "fixer", "verifier")}


def ask(agent: Agent, what: str, expected: str) -> str:
    """Return what a crew of one agent makes of a task."""
    task = Task(description=what, expected_output=expected, agent=agent)
    return str(Crew(agents=[agent], tasks=[task]).kickoff())


def work(item: str) -> str:
    """Return the result of one step; what it found is there for the later ones."""
    if item in SCANS:
        found = ask(scanner, f"Perform {item} security analysis", "List of vulnerabilities found")
        memory["scanner"].save(f"Scan results for {item}: {found}", metadata={"phase": "scanning", "item": item})
    elif item in FIXES:
        findings = memory["fixer"].search(f"vulnerabilities {item}", limit=5)
        found = ask(fixer, f"Generate security patches based on: {findings}", "Code patches")
        memory["fixer"].save(f"Patches for {item}: {found}", metadata={"phase": "fixing", "item": item})
    elif item == "verify-fixes":
        patches = memory["verifier"].search("security patches", limit=10)
        found = ask(verifier, f"Verify these security patches: {patches}", "Verification results for each patch")
    else:
        findings = memory["scanner"].search("vulnerabilities patches", limit=40)
        found = ask(scanner, f"Compile the audit report from: {findings}", "Security audit report in markdown")
    return found


def run_pipeline() -> None:
    """Do what is not done."""
    completed = client.get_session(SESSION)["completed_items"]
    for item in ITEMS:
        if item in completed:
            print(f"Skipping {item} -- already completed")
            continue
        print(f"Running {item}...")
        client.set_in_progress(SESSION, item)
        result = work(item)
        client.update_session(SESSION, completed_items=[item], summary=f"Completed {item}. Result: {result[:200]}")


def verify(feature_id: str) -> None:
    """Let the verifier try each test step that has not passed; when all have, the feature is complete."""
    feature = client.get_feature(feature_id, session_id=SESSION)
    patches = memory["verifier"].search("security patches", limit=10)
    for step in feature["test_steps"]:
        if step in feature["passed_steps"]:
            continue
        verdict = ask(verifier, f"Is this so with {patches}? {step}. Begin with PASS or FAIL.", "PASS or FAIL, and why")
        if not verdict.startswith("PASS"):
            client.mark_feature_failed(feature_id, f"{step}: {verdict}", session_id=SESSION)
            return
        client.update_feature(feature_id, session_id=SESSION, passes=[step], verified_by="verifier")
    if feature["status"] != "completed":
        client.mark_feature_complete(feature_id, verified_by="verifier", session_id=SESSION)


def main() -> None:
    """Begin, or go on."""
    session = client.create_session(SESSION, agent_id="audit-lead")
    print(f"Resuming audit. {len(session['completed_items'])}/{len(ITEMS)} steps completed.")
    if not session["total_items"]:
        client.update_session(SESSION, next_items=ITEMS, summary="Starting security audit pipeline")
    for feature_id, steps in FEATURES.items():
        client.create_feature(feature_id, session_id=SESSION, category="security", test_steps=steps)

    run_pipeline()
    for feature_id in FEATURES:
        verify(feature_id)

    incomplete = [each for each in client.list_features(session_id=SESSION) if each["status"] != "completed"]
    if incomplete:
        print(f"Warning: {len(incomplete)} features not fully verified")
    else:
        print("All features verified. Audit complete.")


if __name__ == "__main__":
    main()
