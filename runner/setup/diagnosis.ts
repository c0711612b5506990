/** What the doctor found out about one thing. */
export interface Diagnosis {
  readonly name: string;
  /** `warning`: works, but not as well as it could. Only `missing` keeps `make test` from working. */
  readonly state: 'ok' | 'warning' | 'missing';
  /** Version and place, or what is wrong. */
  readonly detail: string;
  /** Who needs it. */
  readonly neededFor: string;
  /** The command, or the next step, that mends it. */
  readonly remedy?: string | undefined;
}

/** Whether nothing that is needed is missing. */
export function isHealthy(diagnoses: readonly Diagnosis[]): boolean {
  return diagnoses.every(({ state }) => state !== 'missing');
}

const MARKS = { ok: 'ok', warning: 'note', missing: 'MISSING' } as const;

/** Table for people; the last line says whether `make test` can work here. */
export function renderDiagnoses(diagnoses: readonly Diagnosis[]): string {
  const width = Math.max(...diagnoses.map(({ name }) => name.length));
  const indent = ' '.repeat(9 + width + 2);
  const lines = diagnoses.flatMap(({ name, state, detail, neededFor, remedy }) => [
    `${MARKS[state].padEnd(9)}${name.padEnd(width)}  ${detail}${state === 'ok' ? '' : ` (for: ${neededFor})`}`,
    ...(remedy === undefined ? [] : [`${indent}→ ${remedy}`]),
  ]);
  const missing = diagnoses.filter(({ state }) => state === 'missing').length;
  const verdict =
    missing === 0 ? 'Everything that is needed is here.' : `${missing} missing: see the arrows.`;
  return [...lines, '', verdict].join('\n');
}
