import { byCommand, type LaunchedMachine, type Starter } from './launch-machine.ts';
import { virtmePart, type QemuCommand } from './qemu-command.ts';
import { virtmeArguments, type MachinePlan } from './virtme-command.ts';
import type { Virtme } from './virtme.ts';

/**
 * How virtme-ng has started QEMU for this process so far, by what it was asked. It is two programs in Python that
 * want half a second until they are replaced by QEMU, and asked the same they choose the same.
 */
const answers = new Map<string, QemuCommand>();

/** What decides how virtme-ng starts QEMU. */
export interface Question {
  readonly virtme: Virtme;
  readonly plan: MachinePlan;
  /** Release of the kernel. */
  readonly release: string;
}

/** QEMU as virtme-ng has started it for such a machine before; undefined: it has not yet. */
export function knownStarter(question: Question): Starter | undefined {
  const command = answers.get(keyOf(question));
  return command && byCommand(command, question.plan);
}

/** For a machine that virtme-ng has started and that is up. */
export async function rememberCommand(
  question: Question,
  { commandLine }: Pick<LaunchedMachine, 'commandLine'>,
): Promise<void> {
  const command = virtmePart((await commandLine()) ?? [], question.plan);
  if (command !== undefined) answers.set(keyOf(question), command);
}

/** Without the machine's name and directory, and without the words that are ours. */
function keyOf({ virtme, plan, release }: Question): string {
  const args = virtmeArguments({ ...plan, id: '', sshPort: null, scratch: 'throwaway', memory: 'anonymous' });
  const anywhere = args.map((word) => word.replaceAll(plan.files.dir, '{dir}'));
  return JSON.stringify([virtme.program, virtme.version, release, anywhere]);
}
