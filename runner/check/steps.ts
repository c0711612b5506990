/** One part of `make check`. */
export interface Step {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** `tap`: the program counts its tests itself. `exit-code`: the step as a whole passes or fails. */
  readonly counts: 'tap' | 'exit-code';
}

/** May run side by side: none of them measures time. */
export function staticSteps(shellScripts: readonly string[]): readonly Step[] {
  return [
    { name: 'lint', program: 'eslint', args: ['--max-warnings', '0', '.'], counts: 'exit-code' },
    { name: 'types', program: 'tsc', args: ['--noEmit'], counts: 'exit-code' },
    {
      name: 'format',
      program: 'prettier',
      args: ['--check', '--log-level', 'warn', '.'],
      counts: 'exit-code',
    },
    { name: 'dead code', program: 'knip', args: ['--no-progress', '--no-config-hints'], counts: 'exit-code' },
    { name: 'shell', program: 'shellcheck', args: shellScripts, counts: 'exit-code' },
  ];
}

/** Alone on the machine: integration tests wait for programs that die, hang or are late. */
export const testStep: Step = {
  name: 'tests',
  program: 'ava',
  args: ['--config', 'ava.unit.config.js', '--tap'],
  counts: 'tap',
};
