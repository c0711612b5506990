import { randomUUID } from 'node:crypto';
import type { Guest } from '#runner/guest/guest.ts';

/** For each question, before the machine's slowdown. Milliseconds. */
const ANSWER_MS = 2_000;

export interface Examination {
  /** In words for the finding: whether the guest still runs. */
  readonly summary: string;
  /** QEMU's and the agent's answers. What the kernel says to it is on the console. */
  readonly lines: readonly string[];
}

/**
 * A machine that could not be cleaned, looked at before it goes: the kernel is asked for its blocked tasks and
 * the stacks of all CPUs (they appear on the console), QEMU for its state and the registers, and a marker
 * tells a slow guest from a wedged one. Never throws.
 */
export async function examineGuest(guest: Guest): Promise<Examination> {
  const timeoutMs = Math.round(ANSWER_MS * guest.slowdown);
  const marker = `fusegate: are you there ${randomUUID()}`;
  const from = await guest.machine.consoleOffset().catch(() => 0);
  const asked = await Promise.all([
    answerOf('marker', guest.call('kernel.mark', { text: marker }, { timeoutMs })),
    answerOf(
      'sysrq w, l',
      guest.call('run', { argv: ['sh', '-c', SYSRQ], timeoutMs }, { timeoutMs: 2 * timeoutMs }),
    ),
    ...(guest.machine.examine === undefined ? [] : [answerOf('QEMU', guest.machine.examine(timeoutMs))]),
  ]);
  const console = await guest.machine.consoleSince(from).catch(() => []);
  const echoed = console.some((line) => line.includes(marker));
  const summary = echoed
    ? 'the guest still answers: slow, or stuck in one place'
    : 'the guest does not answer any more';
  return { summary, lines: [summary, ...asked.flat()] };
}

/** Blocked tasks, then the stacks of the CPUs that do something (Documentation/admin-guide/sysrq.rst). */
const SYSRQ = 'for key in w l; do echo $key >/proc/sysrq-trigger; done';

async function answerOf(what: string, question: Promise<unknown>): Promise<readonly string[]> {
  try {
    const answer = await question;
    return typeof answer === 'string' ? [`${what}:`, ...answer.split(/\r?\n/)] : [`${what}: answered`];
  } catch (error) {
    return [`${what}: ${error instanceof Error ? error.message : String(error)}`];
  }
}
