import ts from 'typescript';
import { rootPath } from './markdown.js';

/** Type errors of files, with the checkout's own settings. */
export function typeErrors(files: readonly string[]): string[] {
  const { config } = ts.readConfigFile(rootPath('tsconfig.json'), (path) =>
    ts.sys.readFile(path),
  ) as { config: { include?: string[]; files?: readonly string[] } };
  const { options } = ts.parseJsonConfigFileContent(
    { ...config, include: [], files },
    ts.sys,
    rootPath(''),
  );
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([...files], options));
  return diagnostics
    .filter(({ file }) => file === undefined || files.includes(file.fileName))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
