import type { z } from 'zod';

/** What a text says, or `undefined` when it is no JSON: for a schema to refuse. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * A file of the repository's own data.
 *
 * @param invalid what is thrown, given the place and what is wrong there.
 */
export function parseData<T extends z.ZodType>(
  schema: T,
  text: string,
  invalid: (why: string) => Error,
): z.output<T> {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw invalid((error as Error).message);
  }
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? 'its top' : issue.path.join('.');
  throw invalid(`at ${where}: ${issue?.message ?? 'unknown reason'}`);
}
