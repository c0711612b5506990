import { groupMembers, signalGroup } from '#runner/lib/process-table.ts';

/** Kills what a shell recipe left running; its shell led the process group. */
export async function endGroup(group: number | undefined): Promise<void> {
  if (group === undefined) return;
  while ((await groupMembers(group)).length > 0) {
    signalGroup(group, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
