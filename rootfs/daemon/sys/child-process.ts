/**
 * node:child_process, which brings sockets and streams with it: a quarter of what the agent would have to load
 * before it can answer that it is there. It does so first.
 */
export function childProcess(): typeof import('node:child_process') {
  return process.getBuiltinModule('node:child_process');
}
