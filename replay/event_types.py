"""Names of events: which types exist, and which end what. Pure: CrewAI is not imported.

``tests/unit/test_event_types.py`` compares both tables with the CrewAI that is installed.
"""

from __future__ import annotations

from eventlog.record import WORK_TYPES

ENDS = {
    "flow_finished": "flow_started",
    "flow_failed": "flow_started",
    "flow_paused": "flow_started",
    "method_execution_finished": "method_execution_started",
    "method_execution_failed": "method_execution_started",
    "method_execution_paused": "method_execution_started",
    "crew_kickoff_completed": "crew_kickoff_started",
    "crew_kickoff_failed": "crew_kickoff_started",
    "crew_train_completed": "crew_train_started",
    "crew_train_failed": "crew_train_started",
    "crew_test_completed": "crew_test_started",
    "crew_test_failed": "crew_test_started",
    "agent_execution_completed": "agent_execution_started",
    "agent_execution_error": "agent_execution_started",
    "agent_evaluation_completed": "agent_evaluation_started",
    "agent_evaluation_failed": "agent_evaluation_started",
    "lite_agent_execution_completed": "lite_agent_execution_started",
    "lite_agent_execution_error": "lite_agent_execution_started",
    "task_completed": "task_started",
    "task_failed": "task_started",
    "llm_call_completed": "llm_call_started",
    "llm_call_failed": "llm_call_started",
    "llm_guardrail_completed": "llm_guardrail_started",
    "llm_guardrail_failed": "llm_guardrail_started",
    "tool_usage_finished": "tool_usage_started",
    "tool_usage_error": "tool_usage_started",
    "mcp_connection_completed": "mcp_connection_started",
    "mcp_connection_failed": "mcp_connection_started",
    "mcp_tool_execution_completed": "mcp_tool_execution_started",
    "mcp_tool_execution_failed": "mcp_tool_execution_started",
    "memory_retrieval_completed": "memory_retrieval_started",
    "memory_retrieval_failed": "memory_retrieval_started",
    "memory_save_completed": "memory_save_started",
    "memory_save_failed": "memory_save_started",
    "memory_query_completed": "memory_query_started",
    "memory_query_failed": "memory_query_started",
    "knowledge_query_completed": "knowledge_query_started",
    "knowledge_query_failed": "knowledge_query_started",
    "knowledge_search_query_completed": "knowledge_search_query_started",
    "knowledge_search_query_failed": "knowledge_search_query_started",
    "a2a_delegation_completed": "a2a_delegation_started",
    "a2a_conversation_completed": "a2a_conversation_started",
    "a2a_server_task_completed": "a2a_server_task_started",
    "a2a_server_task_canceled": "a2a_server_task_started",
    "a2a_server_task_failed": "a2a_server_task_started",
    "a2a_parallel_delegation_completed": "a2a_parallel_delegation_started",
    "agent_reasoning_completed": "agent_reasoning_started",
    "agent_reasoning_failed": "agent_reasoning_started",
}
"""Ending type → the type that opened the scope.

Source: ``crewai.events.event_context.VALID_EVENT_PAIRS``.
"""

STARTS = frozenset(ENDS.values())
"""Types that open a scope."""

OWN_TYPES = frozenset(
    {
        "eventlog.capture_gap",
        "eventlog.command",
        "eventlog.definition",
        "eventlog.execution_aborted",
        "eventlog.execution_result",
        "eventlog.executor",
        "eventlog.flow_state",
        "eventlog.fork_edited",
        "eventlog.human_exchange",
        "eventlog.llm_exchange",
        "eventlog.memory_exchange",
        "eventlog.resumed",
        "eventlog.task_skipped",
        "eventlog.token_count",
        "eventlog.tool_exchange",
    }
)
"""What this library appends itself."""

_CREWAI = {
    "a2a_events": """
        a2a_agent_card_fetched a2a_artifact_received a2a_authentication_failed a2a_connection_error
        a2a_content_type_negotiated a2a_context_completed a2a_context_created a2a_context_expired a2a_context_idle
        a2a_context_pruned a2a_conversation_completed a2a_conversation_started a2a_delegation_completed
        a2a_delegation_started a2a_message_sent a2a_parallel_delegation_completed a2a_parallel_delegation_started
        a2a_polling_started a2a_polling_status a2a_push_notification_received a2a_push_notification_registered
        a2a_push_notification_sent a2a_push_notification_timeout a2a_response_received a2a_server_task_canceled
        a2a_server_task_completed a2a_server_task_failed a2a_server_task_started a2a_streaming_chunk
        a2a_streaming_started a2a_transport_negotiated
    """,
    "agent_events": """
        agent_evaluation_completed agent_evaluation_failed agent_evaluation_started agent_execution_completed
        agent_execution_error agent_execution_started lite_agent_execution_completed lite_agent_execution_error
        lite_agent_execution_started
    """,
    "checkpoint_events": """
        checkpoint_completed checkpoint_failed checkpoint_fork_completed checkpoint_fork_started checkpoint_pruned
        checkpoint_restore_completed checkpoint_restore_failed checkpoint_restore_started checkpoint_started
    """,
    "crew_events": """
        crew_kickoff_completed crew_kickoff_failed crew_kickoff_started crew_test_completed crew_test_failed
        crew_test_result crew_test_started crew_train_completed crew_train_failed crew_train_started
    """,
    "env_events": "cc_env codex_env cursor_env default_env",
    "flow_events": """
        conversation_message_added conversation_route_selected conversation_turn_completed conversation_turn_failed
        conversation_turn_started flow_created flow_failed flow_finished flow_input_received flow_input_requested
        flow_paused flow_plot flow_started human_feedback_received human_feedback_requested method_execution_failed
        method_execution_finished method_execution_paused method_execution_started
    """,
    "hook_events": "hook_dispatched",
    "knowledge_events": """
        knowledge_query_completed knowledge_query_failed knowledge_query_started knowledge_search_query_completed
        knowledge_search_query_failed knowledge_search_query_started
    """,
    "llm_events": """
        context_window_summarization_completed context_window_summarization_failed context_window_summarization_started
        llm_call_completed llm_call_failed llm_call_started llm_stream_chunk llm_thinking_chunk
    """,
    "llm_guardrail_events": "llm_guardrail_completed llm_guardrail_started",
    "logging_events": "agent_logs_execution agent_logs_started",
    "mcp_events": """
        mcp_config_fetch_failed mcp_connection_completed mcp_connection_failed mcp_connection_started
        mcp_tool_execution_completed mcp_tool_execution_failed mcp_tool_execution_started
    """,
    "memory_events": """
        memory_query_completed memory_query_failed memory_query_started memory_retrieval_completed
        memory_retrieval_failed memory_retrieval_started memory_save_completed memory_save_failed memory_save_started
    """,
    "observation_events": """
        goal_achieved_early plan_refinement plan_replan_triggered plan_step_completed plan_step_started
        step_observation_completed step_observation_failed step_observation_started
    """,
    "reasoning_events": "agent_reasoning_completed agent_reasoning_failed agent_reasoning_started",
    "skill_events": """
        skill_activated skill_discovery_completed skill_discovery_started skill_load_failed skill_loaded skill_used
    """,
    "system_events": "SIGCONT SIGHUP SIGINT SIGTERM SIGTSTP",
    "task_events": "task_completed task_evaluation task_failed task_started",
    "tool_usage_events": """
        tool_execution_error tool_failure_detected tool_selection_error tool_usage_error tool_usage_finished
        tool_usage_started tool_validate_input_error
    """,
    "skills.events": "skill_download_completed skill_download_started",
}

CREWAI_TYPES = frozenset(event_type for types in _CREWAI.values() for event_type in types.split())
"""Every concrete event class of CrewAI 1.15.30, listed above by the file that defines it."""

KNOWN_TYPES = CREWAI_TYPES | OWN_TYPES | WORK_TYPES | STARTS | frozenset(ENDS)
"""Types that are not counted as unknown."""
