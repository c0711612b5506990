import { randomUUID } from 'node:crypto';
import type { Guest } from '#runner/guest/guest.ts';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Machine } from '#runner/machine/machine.ts';
import { whoIsSilent, type Silent } from './silence.ts';

/** For each question, before the machine's slowdown. Milliseconds. */
const ANSWER_MS = 2_000;
/** Between two looks at the console. Milliseconds. */
const LOOK_MS = 50;

export interface Examination {
  /** In words for the finding: whether the guest still runs. */
  readonly summary: string;
  /** Who does not get on. */
  readonly silent: Silent;
  /** QEMU's and the agent's answers. What the kernel says to it is on the console. */
  readonly lines: readonly string[];
}

/**
 * A machine that could not be cleaned, looked at before it goes: the kernel is asked over its console for its
 * blocked tasks and the stacks of all CPUs (they appear there), QEMU for its state and the registers, and a
 * marker tells a slow guest from a wedged one. Never throws.
 */
export async function examineGuest(guest: Guest): Promise<Examination> {
  const { machine } = guest;
  const timeoutMs = Math.round(ANSWER_MS * guest.slowdown);
  const marker = `fusegate: are you there ${randomUUID()}`;
  const from = await machine.consoleOffset().catch(() => 0);
  const [marked, stacks, qemu] = await Promise.all([
    answerOf('marker', guest.call('kernel.mark', { text: marker }, { timeoutMs })),
    answerOf('sysrq w, l', askKernel(guest, from, timeoutMs)),
    machine.examine === undefined ? null : answerOf('QEMU', machine.examine(timeoutMs)),
  ]);
  const console = await machine.consoleSince(from).catch(() => []);
  const echoed = console.some((line) => line.includes(marker));
  const silent = whoIsSilent({ echoed, console, qemuAnswers: qemu?.answered ?? true });
  const summary = SUMMARIES[echoed ? 'nobody' : silent];
  return {
    summary,
    silent,
    lines: [summary, ...[marked, stacks, qemu].flatMap((asked) => asked?.lines ?? [])],
  };
}

const SUMMARIES: Readonly<Record<Silent | 'nobody', string>> = {
  nobody: 'the guest still answers: slow, or stuck in one place',
  kernel: 'the guest does not answer any more',
  agent: 'the kernel answers and nothing is stuck in it: only the agent is silent',
  qemu: 'QEMU itself does not answer',
};

/** A machine that is silent for another reason than its kernel. */
export function notTheKernel({ id, consolePath }: Machine, silent: Silent): Failure | undefined {
  const evidence = [{ label: 'whole console', path: consolePath }];
  if (silent === 'agent') {
    return new Failure('E_AGENT_SILENT', 'infra', `the agent of ${id} does not answer, but its kernel does`, {
      hint: 'somebody stopped the agent, or it is stuck in its own code; its processes are in the evidence',
      evidence,
    });
  }
  if (silent === 'qemu') {
    return new Failure('E_QEMU_SILENT', 'infra', `QEMU of ${id} does not answer`, {
      hint: 'somebody stopped it (SIGSTOP), or this machine is far too busy',
      evidence,
    });
  }
  return undefined;
}

/** Blocked tasks, then the stacks of the CPUs, then a fence (Documentation/admin-guide/sysrq.rst). */
const KEYS = [
  ['w', 'Show Blocked State'],
  ['l', 'Show backtrace of all active CPUs'],
  ['h', 'HELP'],
] as const;

async function askKernel({ machine, ...guest }: Guest, from: number, timeoutMs: number): Promise<unknown> {
  if (machine.sysrq === undefined) {
    const argv = ['sh', '-c', 'for key in w l; do echo $key >/proc/sysrq-trigger; done'];
    return guest.call('run', { argv, timeoutMs }, { timeoutMs: 2 * timeoutMs });
  }
  for (const [key, answer] of KEYS) {
    const late = (): never => {
      throw new Error(`the kernel did not answer the key ${key} on its console`);
    };
    await beforeDeadline(machine.sysrq(key), timeoutMs, late);
    const until = performance.now() + timeoutMs;
    while (!(await machine.consoleSince(from)).some((line) => line.includes(`sysrq: ${answer}`))) {
      if (performance.now() > until) late();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
  return null;
}

interface Answer {
  readonly answered: boolean;
  readonly lines: readonly string[];
}

async function answerOf(what: string, question: Promise<unknown>): Promise<Answer> {
  try {
    const answer = await question;
    const lines =
      typeof answer === 'string'
        ? [`${what}:`, ...answer.split(/\r?\n/).map((line) => cleanLine(line, 400))]
        : [`${what}: answered`];
    return { answered: true, lines };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { answered: false, lines: [`${what}: ${cleanLine(why)}`] };
  }
}
