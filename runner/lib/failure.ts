/** Who has to act. Decided where the failure is noticed, never guessed from a text later. */
export type Blame = 'user' | 'series' | 'kernel' | 'test' | 'infra' | 'interrupted';

/** A file that proves a claim: a console log, a request log, a kept worktree. */
export interface Evidence {
  readonly label: string;
  readonly path: string;
}

export interface FailureOptions {
  /** The next thing to type or to look at, as one sentence. */
  readonly hint?: string | undefined;
  readonly evidence?: readonly Evidence[] | undefined;
  /** The lines of the evidence that matter most, as they came; shown below the sentence. */
  readonly excerpt?: readonly string[] | undefined;
  readonly cause?: unknown;
}

/**
 * A failure that we understand: one sentence, a stable code (a heading in docs/errors.md), who is to
 * blame and what to do next. Anything else that is thrown is a bug of fusegate and shows its stack.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: `E_${string}`;
  readonly blame: Blame;
  readonly hint: string | undefined;
  readonly evidence: readonly Evidence[];
  readonly excerpt: readonly string[];

  constructor(code: `E_${string}`, blame: Blame, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.blame = blame;
    this.hint = options.hint;
    this.evidence = options.evidence ?? [];
    this.excerpt = options.excerpt ?? [];
  }
}

/** The exit codes of the contract (DESIGN.md, section 2). */
export const ExitCode = {
  passed: 0,
  kernelFailed: 1,
  usage: 2,
  infrastructure: 3,
  build: 4,
  interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export function exitCodeOf(blame: Blame): ExitCode {
  switch (blame) {
    case 'user':
      return ExitCode.usage;
    case 'series':
      return ExitCode.build;
    case 'kernel':
    case 'test':
      return ExitCode.kernelFailed;
    case 'infra':
      return ExitCode.infrastructure;
    case 'interrupted':
      return ExitCode.interrupted;
  }
}
