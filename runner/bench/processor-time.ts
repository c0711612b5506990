import { cpus } from 'node:os';

/** How many processors of this machine were at work on average since a moment, whoever it was for. */
export function countBusy(): () => number {
  const before = times();
  return () => {
    const after = times();
    const elapsed = (after.busy + after.idle - before.busy - before.idle) / cpus().length;
    return elapsed > 0 ? (after.busy - before.busy) / elapsed : 0;
  };
}

/** Of all processors since the boot. Milliseconds. */
function times(): { readonly busy: number; readonly idle: number } {
  let busy = 0;
  let idle = 0;
  for (const { times: of } of cpus()) {
    busy += of.user + of.nice + of.sys + of.irq;
    idle += of.idle;
  }
  return { busy, idle };
}
