/** Whose fault it is that a guest does not answer. */
export type Silent = 'kernel' | 'agent' | 'qemu';

export interface Showing {
  /** The agent had the kernel print a marker. */
  readonly echoed: boolean;
  readonly qemuAnswers: boolean;
  /** Of the kernel, since it was asked for its blocked tasks and the stacks of its CPUs. */
  readonly console: readonly string[];
}

/**
 * Pure. A guest that cannot be cleaned is the kernel's failure unless it is proved to be another's: QEMU that
 * does not answer has stopped; an agent that does not, on a kernel that tells on its console that no task is
 * blocked and every CPU idle, waits for nothing that the kernel owes it.
 */
export function whoIsSilent({ echoed, qemuAnswers, console }: Showing): Silent {
  if (echoed) return 'kernel';
  if (!qemuAnswers) return 'qemu';
  const at = (words: string): number => console.findIndex((line) => line.includes(`sysrq: ${words}`));
  const [blocked, cpus, end] = [at('Show Blocked State'), at('Show backtrace'), at('HELP')];
  if (blocked < 0 || cpus < blocked || end < cpus) return 'kernel';
  const tasks = console.slice(blocked, cpus).filter((line) => /task:\S+ +state:/.test(line));
  const stacks = console.slice(cpus, end);
  const busy = stacks.filter((line) => /\bCPU: \d+ .*\bComm: (?!swapper\/)/.test(line));
  const seen = stacks.some((line) => /\bComm: swapper\/|skipped: idling/.test(line));
  return tasks.length === 0 && busy.length === 0 && seen ? 'agent' : 'kernel';
}
