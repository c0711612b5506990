import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { parseJson } from '#runner/lib/json.ts';
import type { Report } from './report.ts';
import { reportSchema } from './report.ts';

/** @throws Failure E_REPORT_MISSING, E_REPORT_INVALID (user). `where`: the file or the directory it lies in. */
export async function loadReport(where: string): Promise<Report> {
  const isDirectory = (await stat(where).catch(() => undefined))?.isDirectory() === true;
  const path = isDirectory ? join(where, 'report.json') : where;
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new Failure('E_REPORT_MISSING', 'user', `there is no report at ${path}`, {
      hint: '`npx fusegate run` writes one; name its directory: `npx fusegate report DIR`',
      cause,
    });
  });
  const parsed = reportSchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const why = issue === undefined ? '' : `: ${issue.path.join('.') || 'its top'}: ${issue.message}`;
  throw new Failure('E_REPORT_INVALID', 'user', `${path} is not a report of fusegate${why}`);
}
