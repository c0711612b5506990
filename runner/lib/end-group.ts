import { groupMembers, signalGroup } from './process-table.ts';

const LOOK_MS = 10;

/**
 * Kills what is left of a process group and waits until that is gone. The group's number is taken as long as one
 * member lives.
 *
 * @param limitMs what is stuck in the kernel is not waited for any longer. Milliseconds; default: for ever.
 */
export async function endGroup(group: number | undefined, limitMs = Infinity): Promise<void> {
  if (group === undefined) return;
  const until = performance.now() + limitMs;
  while ((await groupMembers(group)).length > 0 && performance.now() < until) {
    signalGroup(group, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
