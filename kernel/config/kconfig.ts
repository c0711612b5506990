import { Failure } from '#runner/lib/failure.ts';

/** One line of a fragment or a .config. */
export interface Assignment {
  /** Without `CONFIG_`. */
  readonly symbol: string;
  /** As written: `y`, `m`, `n`, a number or a quoted string. `# CONFIG_X is not set` is `n`. */
  readonly value: string;
  readonly line: number;
}

export interface Fragment {
  readonly name: string;
  readonly assignments: readonly Assignment[];
}

const assignment = /^CONFIG_(\w+)=(y|m|n|-?\d+|0x[0-9a-fA-F]+|"(?:[^"\\]|\\.)*")$/u;
const unset = /^# CONFIG_(\w+) is not set$/u;

/**
 * Reads a fragment or a .config.
 *
 * @throws Failure E_CONFIG_INVALID (user) with the line of the first text that is neither assignment nor comment,
 *   and for a symbol that one file sets to two values.
 */
export function parseKconfig(text: string, name: string): Fragment {
  const seen = new Map<string, Assignment>();
  text.split(/\r?\n/u).forEach((raw, index) => {
    const line = raw.trim();
    const off = unset.exec(line)?.[1];
    const on = assignment.exec(line);
    if (off === undefined && on === null) {
      if (line === '' || line.startsWith('#')) return;
      throw invalid(name, index + 1, `${JSON.stringify(line.slice(0, 80))} is no CONFIG_ line`);
    }
    const found = { symbol: off ?? on?.[1] ?? '', value: on?.[2] ?? 'n', line: index + 1 };
    const before = seen.get(found.symbol);
    if (before !== undefined && before.value !== found.value) {
      throw invalid(
        name,
        index + 1,
        `CONFIG_${found.symbol} already has another value in line ${before.line}`,
      );
    }
    seen.set(found.symbol, found);
  });
  return { name, assignments: [...seen.values()] };
}

export function formatAssignment(symbol: string, value: string): string {
  return value === 'n' ? `# CONFIG_${symbol} is not set` : `CONFIG_${symbol}=${value}`;
}

function invalid(name: string, line: number, what: string): Failure {
  return new Failure('E_CONFIG_INVALID', 'user', `config fragment ${name}, line ${line}: ${what}`, {
    hint: 'lines are CONFIG_NAME=y, CONFIG_NAME="text", CONFIG_NAME=12, # CONFIG_NAME is not set, or comments',
  });
}
