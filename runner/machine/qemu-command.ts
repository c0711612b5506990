import { z } from 'zod';
import { qemuArguments, type MachinePlan } from './virtme-command.ts';

/** How virtme-ng started a machine, with `{dir}` where its directory was and without the arguments that are ours. */
export const qemuCommandSchema = z.object({
  program: z.string().min(1),
  args: z.array(z.string()),
});
export type QemuCommand = z.infer<typeof qemuCommandSchema>;

const DIRECTORY = '{dir}';

/**
 * Pure: from the command line of a machine that runs, what a copy of it is started with.
 *
 * @returns undefined when it does not end in the arguments that we gave to virtme-ng.
 */
export function virtmePart(commandLine: readonly string[], plan: MachinePlan): QemuCommand | undefined {
  const ours = qemuArguments(plan);
  const [program, ...args] = commandLine;
  const from = args.length - ours.length;
  if (program === undefined || from < 0 || ours.some((word, at) => args[from + at] !== word))
    return undefined;
  return { program, args: args.slice(0, from).map((word) => word.replaceAll(plan.files.dir, DIRECTORY)) };
}

/** Pure: the arguments of QEMU for a copy: what virtme-ng chose, with the files and the name of its own. */
export function copyArguments({ args }: QemuCommand, plan: MachinePlan): readonly string[] {
  const named = args.indexOf('-name') + 1;
  const theirs = args.map((word, at) =>
    at === named && named > 0 ? plan.id : word.replaceAll(DIRECTORY, plan.files.dir),
  );
  return [...theirs, ...qemuArguments(plan)];
}
